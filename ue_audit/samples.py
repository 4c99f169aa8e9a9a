"""The images a report shows: a seeded choice, the same for the same names, each from clean to purified."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ue_audit import manifest
from ue_audit.contests import Contest
from ue_audit.facts import Facts
from ue_audit.imagefolder import decode, resized
from ue_audit.rendering import sheet
from ue_audit.rendering.sheet import GAIN, Pixels

ROWS = 8
TILE = 128  # pixels at most
SEED = "ue-audit image sheet 1"
UNGUIDED = "ddpm"


class Samples(NamedTuple):
    """The sheet's PNG and what report.json says of it."""

    png: bytes
    about: dict[str, Any]


class Column(NamedTuple):
    """A folder whose images are shown, with its files by the clean original they go back to."""

    title: str
    folder: Path
    files: Mapping[str, str]


def choose(facts: Facts, contest: Contest | None) -> Samples | None:
    """The sheet, or None where the images are not at hand any more."""
    columns = _columns(facts, contest) if contest is not None else []
    if len(columns) < 2 or not all(column.folder.is_dir() for column in columns):
        return None
    names = _pick(set.intersection(*(set(column.files) for column in columns)))
    if not names:
        return None
    rows = [_row([_tile(column, name) for column in columns]) for name in names]
    titles = _titles([column.title for column in columns])
    classes = [name.rpartition("/")[0] for name in names]
    about = {
        "file": "report.png",
        "columns": titles,
        "rows": names,
        "tile": [rows[0][0].shape[1], rows[0][0].shape[0]],
        "alt": f"{len(names)} images in rows, from {', '.join(dict.fromkeys(classes))}; columns: {', '.join(titles)}.",
        "caption": f"A seeded choice of {len(names)} images. Changes are enlarged {GAIN} times about grey.",
    }
    return Samples(sheet.png(rows), about)


def _columns(facts: Facts, contest: Contest) -> list[Column]:
    """clean, protected, then the chosen countermeasure or JCDP, then the one without guidance (or any other)."""
    treated = [g for g, _ in contest.attacks if g.role == "purified" and g.learner == contest.protected.learner]
    guided = sorted(treated, key=lambda g: (g.countermeasure == UNGUIDED, "jcdp" not in str(g.countermeasure)))
    plain = [g for g in treated if g.countermeasure == UNGUIDED and g is not guided[0]] or guided[1:]
    titles = {contest.clean.folder: "clean", contest.protected.folder: "protected"}
    chosen = [contest.best[0]] if contest.best is not None and contest.best[0] in treated else []
    shown = list({g.folder: g for g in [*chosen, *guided[:1], *plain[:1]]}.values())[:2]
    titles |= {g.folder: f"purified by {g.countermeasure}" for g in shown}
    if not all(name in facts.folders and facts.folders[name].is_dir() for name in titles):
        return []
    clean = facts.folders[contest.clean.folder]
    return [Column(title, facts.folders[name], _files(facts.folders[name], clean)) for name, title in titles.items()]


def _files(folder: Path, clean: Path) -> dict[str, str]:
    """Clean original -> file in `folder`, both as relative paths."""
    made = manifest.find(folder)
    if made is None:
        return {p.relative_to(clean).as_posix(): p.relative_to(clean).as_posix() for p in clean.glob("*/*")}
    parent = made.dependency("protected", "purified", "source")
    before = _files(manifest.locate(folder, parent), clean) if parent is not None else {}
    original = {file: name for name, file in before.items()}
    return {original[r["source"]]: r["path"] for r in manifest.records(folder) if r["source"] in original}


def _pick(names: set[str]) -> list[str]:
    """ROWS names in the order of their hashes, the classes taking turns."""
    order = sorted(names, key=lambda name: hashlib.sha256(f"{SEED}\n{name}".encode()).digest())
    turns: dict[str, int] = {}
    ranked = []
    for name in order:
        label = name.partition("/")[0]
        turns[label] = turns.get(label, 0) + 1
        ranked.append((turns[label], name))
    return sorted(name for _, name in sorted(ranked, key=lambda pair: pair[0])[:ROWS])


def _tile(column: Column, name: str) -> Pixels:
    return decode(column.folder / column.files[name]).pixels


def _row(tiles: list[Pixels]) -> list[Pixels]:
    """Tiles at one size, with the change after the protected one and the rest after the purified ones."""
    height, width = tiles[-1].shape[:2]
    scale = min(1.0, TILE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    x, x_ue, *purified = (resized(tile, *size) for tile in tiles)
    rest = [sheet.change(x, purified[0])] if purified else []
    return [x, x_ue, sheet.change(x, x_ue), *purified, *rest]


def _titles(titles: list[str]) -> list[str]:
    clean, protected, *purified = titles
    rest = [f"rest ×{GAIN}"] if purified else []
    return [clean, protected, f"change ×{GAIN}", *purified, *rest]
