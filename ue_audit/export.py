"""export: a protected or purified set as others load it, from its manifest and its files; no pixel is touched.

    hf          train/<class>/*.png, train/metadata.csv, README.md: Hugging Face's `imagefolder`, with a data set card
    croissant   images/<class>/*.png, metadata.csv, croissant.json: Croissant 1.0, the metadata beside the images

What is written is meant to be published: it names methods, budgets and digests, and no place, user, host or seed.
Read back with datasets 5.2.0 (`label` is a ClassLabel) and mlcroissant 1.1.1 (valid; every record set can be read).
"""

import csv
import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ue_audit import cards, manifest, shards
from ue_audit.cards import Card
from ue_audit.errors import UsageError
from ue_audit.progress import SILENT, Progress
from ue_audit.settings import Plan
from ue_audit.spelling import pasted
from ue_audit.statement import Manifest, statement
from ue_audit.tool_settings import ExportSettings

SHARD_BYTES, SHARD_FILES = 2**26, 512
FOLDER = {"hf": "train", "croissant": "images"}  # the images lie in
STAGES = ("protect", "purify")
FIGURES = ("width", "height", "linf", "psnr")  # of a record, where all have them


def run(settings: ExportSettings, progress: Progress = SILENT) -> Path:
    """Export `settings.source`; returns the sealed output folder.

    Raises UsageError (no protected or purified set), IntegrityError (an image is not the one that was sealed).
    """
    output = settings.place()
    shards.refuse_overlap(output, [settings.source])
    made, records = _opened(settings.source)
    work = shards.Work.open(output, _parameters(settings, made), fresh=settings.fresh)
    if work.complete:
        progress.say(f"{output} is up to date")
        return output
    _copy(work, settings, records, progress)
    if "card" not in work.done:
        work.commit("card", _documents(settings, made, records), [])
    return work.seal(lambda kept: _statement(settings, made, records))


def plan(settings: ExportSettings, progress: Progress = SILENT) -> Plan:
    """What `run` would do; writes nothing."""
    output = settings.place()
    shards.refuse_overlap(output, [settings.source])
    made, records = _opened(settings.source)
    return Plan(
        stage="export",
        output=str(output),
        images=len(records),
        classes=len(_classes(records)),
        shards=len(_shards(settings.source, records)) + 1,
        output_bytes=sum((settings.source / record["path"]).stat().st_size for record in records),
        free_bytes=shutil.disk_usage(output.resolve().parent).free,
        notes=(f"a set made by {made.stage} {made.method}, tree {made.tree[:12]}",),
    )


def _opened(source: Path) -> tuple[Manifest, list[dict[str, Any]]]:
    made = manifest.read(source)
    if made.stage not in STAGES:
        raise UsageError(
            f"expected a protected or purified set, found the output of {made.stage}: {source}",
            hint="the owner's clean images are theirs to publish as they are",
        )
    manifest.refuse_part(source, made)
    return made, manifest.records(source)


def _classes(records: list[dict[str, Any]]) -> list[str]:
    return sorted({record["label"] for record in records} - {None})


# -- writing -----------------------------------------------------------------------------------------------------


def _shards(source: Path, records: list[dict[str, Any]]) -> list[range]:
    largest = max((source / record["path"]).stat().st_size for record in records)
    rows = max(1, min(SHARD_FILES, SHARD_BYTES // max(1, largest)))
    return [range(start, min(start + rows, len(records))) for start in range(0, len(records), rows)]


def _copy(work: shards.Work, settings: ExportSettings, records: list[dict[str, Any]], progress: Progress) -> None:
    below = FOLDER[settings.format]
    listed = _shards(settings.source, records)
    if work.done:
        progress.say(f"{len(work.done)}/{len(listed) + 1} shards done, resuming")
    progress.start("copying", len(records))
    for number, rows in enumerate(listed):
        if str(number) not in work.done:
            chosen = [records[row] for row in rows]
            files = {f"{below}/{record['path']}": manifest.image_of(settings.source, record) for record in chosen}
            work.commit(str(number), files, [_record(record, below) for record in chosen])
        progress.advance(len(rows))
    progress.stop()


def _record(record: Mapping[str, Any], below: str) -> dict[str, Any]:
    kept = {name: record.get(name) for name in ("label", "sha256", "pixels_sha256", "width", "height")}
    return {"path": f"{below}/{record['path']}"} | kept


def _documents(settings: ExportSettings, made: Manifest, records: list[dict[str, Any]]) -> dict[str, bytes]:
    """The files beside the images: their metadata and the card."""
    card = Card(
        title=settings.source.resolve().name,
        images=len(records),
        classes=tuple(_classes(records)),
        history=tuple(_history(settings.source, made)),
        figures=tuple(name for name in FIGURES if all(record.get(name) is not None for record in records)),
    )
    if settings.format == "hf":
        return {"train/metadata.csv": _metadata(records, card, ""), "README.md": cards.readme(card)}
    table = _metadata(records, card, "images/")
    return {"metadata.csv": table, "croissant.json": cards.croissant(card, table)}


def _history(source: Path, made: Manifest) -> list[cards.Step]:
    """How the set was made, first step first; nothing in it says where or by whom."""
    line = [made, *(found for _, _, found in manifest.ancestors(source) if found is not None)]
    return [cards.Step(m.stage, m.method, m.budget, m.config, m.tree, m.run.versions) for m in reversed(line)]


def _metadata(records: list[dict[str, Any]], card: Card, below: str) -> bytes:
    """One line an image: its path, class if the set has any, digests and figures.

    A class is its number: readers would take classes called 007, 2024-05-01 or None for something else than text.
    """
    labels = {name: number for number, name in enumerate(card.classes)}
    figures = ("sha256", "pixels_sha256", *card.figures)
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\n")
    lines.writerow(["file_name", *(["label"] if labels else []), *figures])
    for record in records:
        own = [labels[record["label"]]] if labels else []
        lines.writerow([f"{below}{record['path']}", *own, *(record[name] for name in figures)])
    return out.getvalue().encode()


# -- manifest ----------------------------------------------------------------------------------------------------


def _parameters(settings: ExportSettings, made: Manifest) -> dict[str, Any]:
    return {"stage": "export", "format": settings.format, "source": made.tree}


def _statement(settings: ExportSettings, made: Manifest, records: list[dict[str, Any]]) -> Manifest:
    name, place = settings.source.resolve().name, settings.place()
    parent = manifest.Dependency(name="exported", uri=quote(f"../{name}"), digest={"tree": made.tree})
    return statement(
        stage="export",
        method=settings.format,
        settings={"source": name, "format": settings.format},
        dependencies=[parent],
        counts={"written": len(records), "classes": len(_classes(records))},
        summary={"images": len(records), "classes": len(_classes(records)), "tree of the set": made.tree[:12]},
        next=pasted("ue-audit", "verify", place) if place == Path(place.name) else "",
    )
