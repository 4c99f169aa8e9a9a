"""What `evaluate` trains on: the cells clean, protected, noise control, purified and ceiling, aligned row by row.

A folder's role is read from its lineage: no manifest = clean, `protect` = protected, `purify` of a protected set =
purified, `purify` of a clean set = ceiling. All cells hold the same images in the same order, so that a training
differs in nothing but the pixels.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ue_audit import manifest
from ue_audit.errors import UsageError
from ue_audit.imagefolder import ImageData
from ue_audit.names import NOISE
from ue_audit.tools import substream


@dataclass(frozen=True)
class Cell:
    """One training set: its role, the folder it comes from, and the countermeasure that made it (if one did)."""

    role: str
    folder: str
    countermeasure: str | None
    data: ImageData

    @property
    def name(self) -> dict[str, str | None]:
        return {"role": self.role, "folder": self.folder, "countermeasure": self.countermeasure}

    @property
    def digest(self) -> str:
        """sha256 over pixels, labels and class names: what a training depends on."""
        total = hashlib.sha256("\n".join(self.data.classes).encode())
        assert self.data.labels is not None
        total.update(self.data.labels.numpy().tobytes())
        for row in range(len(self.data)):
            total.update(np.ascontiguousarray(self.data.pixels[row]).tobytes())
        return total.hexdigest()


def role_of(path: Path) -> tuple[str, str | None]:
    """A folder's role and countermeasure, from its manifest and those of its ancestors: of a folder that was purified
    several times, all of it, "jcdp+jpeg". Raises UsageError where a manifest that this is read from is gone."""
    found = manifest.find(path)
    if found is None:
        return "clean", None
    if found.stage == "protect":
        return "protected", None
    if found.stage != "purify":
        raise UsageError(f"expected an image folder, found the output of {found.stage}: {path}")
    manifest.refuse_part(path, found)
    above = manifest.ancestors(path)
    if above and above[-1][0] == "protected" and above[-1][2] is None:
        raise UsageError(
            f"{path} goes back to {above[-1][1]}, which is not there: whether that was protected is not known",
            hint="put it back, or purify the set that you have",
        )
    line = [found, *(m for _, _, m in above if m is not None)]
    protected = any(m.stage == "protect" for m in line)
    steps = [str(m.settings.get("name") or m.settings.get("method", m.method)) for m in line if m.stage == "purify"]
    return ("purified" if protected else "ceiling"), "+".join(reversed(steps))


def family(folders: list[Path], clean: Path | None) -> list[Path]:
    """The folders asked for, completed by the sets they were made from: clean first, then by descent."""
    known: dict[Path, Path] = {}
    for folder in folders:
        for _, path, _ in reversed(manifest.ancestors(folder)):
            if path.is_dir():
                known.setdefault(path.resolve(), path)
        known.setdefault(folder.resolve(), folder)
    if clean is not None:
        known = {path: shown for path, shown in known.items() if role_of(shown)[0] != "clean"}
        known = {clean.resolve(): clean} | known
    order = ("clean", "protected", "ceiling", "purified")
    return sorted(known.values(), key=lambda path: order.index(role_of(path)[0]))


def protected_of(cell: Cell, paths: Mapping[str, Path]) -> str:
    """The name of the protected set that a cell is, was purified from, or has the noise of."""
    if cell.role != "purified":
        return cell.folder.removesuffix(NOISE)
    above = manifest.ancestors(paths[cell.folder])
    return next(path.name for _, path, m in above if m is not None and m.stage == "protect")


def original_keys(path: Path) -> dict[str, str]:
    """Each image of a folder -> the relative path of the clean original it descends from."""
    if manifest.find(path) is None:
        return {}
    parent = next(iter(manifest.ancestors(path)), None)
    before = original_keys(parent[1]) if parent is not None and parent[1].is_dir() else {}
    return {r["path"]: before.get(r["source"], r["source"]) for r in manifest.records(path)}


def align(data: ImageData, originals: dict[str, str], keys: list[str], folder: Path) -> ImageData:
    """`data` in the order of the clean `keys`; UsageError where an image has no counterpart."""
    rows = {originals.get(key, key): row for row, key in enumerate(data.keys)}
    missing = [key for key in keys if key not in rows]
    if missing:
        raise UsageError(
            f"{folder}: expected the same images in every set, found none for {missing[0]} "
            f"and {len(missing) - 1} more of {len(keys)}",
            hint="evaluate sets made from the same source with the same --limit",
        )
    return data.take([rows[key] for key in keys])


def noise_control(clean: Cell, protected: Cell, seed: int) -> Cell:
    """Clean images plus the change of another image, its values shuffled and their signs drawn anew.

    Over the set the noise has exactly the linf, l1 and l2 norms of delta (before clipping to [0,255]) and none of its
    meaning. An image does not get its own norm, since classes may differ in the strength of their noise, and a network
    then reads the class off that strength alone: a shortcut again (EMN, 4 x 500 images, one run each: 59.3 % with own
    norms, 81.2 % with another image's, 80.9 % clean).
    """
    keys = clean.data.keys
    order = sorted(range(len(keys)), key=lambda row: substream(seed, "noise donor", protected.folder, keys[row]))
    pixels = np.empty_like(np.asarray(clean.data.pixels))
    for row, donor in zip(order, order[1:] + order[:1], strict=True):
        generator = np.random.default_rng(substream(seed, "noise control", protected.folder, keys[row]))
        delta = protected.data.pixels[donor].astype(np.int16) - clean.data.pixels[donor]
        size = generator.permutation(np.abs(delta).ravel())
        noise = size * generator.choice(np.array([-1, 1], np.int16), size.size)
        pixels[row] = np.clip(clean.data.pixels[row] + noise.reshape(delta.shape), 0, 255)
    return Cell("noise", protected.folder + NOISE, None, clean.data.with_pixels(pixels))


def gather(folders: list[Path], clean: Path | None, noise: bool, seed: int, intake: Any) -> list[Cell]:
    """Every cell of an evaluation. `intake(path) -> ImageData` decodes a folder at the working size."""
    cells: list[Cell] = []
    for path in family(folders, clean):
        role, countermeasure = role_of(path)
        data = intake(path)
        if data.labels is None:
            raise UsageError(f"{path}: expected one folder per class, found images without classes")
        if cells:
            data = align(data, original_keys(path), cells[0].data.keys, path)
        cells.append(Cell(role, path.name, countermeasure, data))
    if not cells or cells[0].role != "clean":
        raise UsageError(
            "the clean originals are needed as the reference and were not found", hint="name them: --clean data/train"
        )
    if noise:
        cells[1:1] = [noise_control(cells[0], cell, seed) for cell in cells if cell.role == "protected"]
    return cells


def split_by_hash(data: ImageData) -> tuple[ImageData, ImageData]:
    """Test images in two halves (validation, test) by the hash of their names: stable when images are added."""
    bits = [hashlib.sha256(key.encode()).digest()[0] & 1 for key in data.keys]
    halves = [[row for row, bit in enumerate(bits) if bit == side] for side in (0, 1)]
    return data.take(halves[0]), data.take(halves[1])
