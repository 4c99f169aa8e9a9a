"""How cost grows with the number of images and their size: time per image and memory, each run in its own process.

Sets larger than the demo's hold its images several times under different names; sizes above 32 px are the same images
enlarged, which costs what photographs of that size cost to decode, purify and write.
"""

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from ue_audit import imagefolder
from ue_audit.benches import child
from ue_audit.benches.rows import Part, Row
from ue_audit.benches.scene import Scene
from ue_audit.benches.stages import CHECK, stage

TITLE = "How cost grows"
PURIFY, SCAN = "purify", "scan + verify"
BASE_IMAGES = 500  # of the sizes' sets, at most
SIDE = 32
PIXEL = "microseconds a pixel"
STEADY = 1.5  # times the memory or time per image of the first row, at most, to be called flat


def run(scene: Scene) -> Part:
    rows: list[Row] = []
    for images in scene.amounts.growth_images:
        rows += _measured(scene, images, SIDE)
    few = min(BASE_IMAGES, *scene.amounts.growth_images)
    for size in scene.amounts.growth_sizes:
        if size != SIDE:
            rows += _measured(scene, few, size)
    first = {verb: next(row for row in rows if row.what.startswith(verb)) for verb in (PURIFY, SCAN)}
    rows = [_beside(row, first[PURIFY if row.what.startswith(PURIFY) else SCAN]) for row in rows]
    return Part(rows, notes=[f"Seconds without start-up; flat: within {STEADY} times the first row, by pixel."])


def _measured(scene: Scene, images: int, size: int) -> list[Row]:
    """Purify, and verify what came of it."""
    folder, out = scene.place / "grown", scene.place / "grown.jcdp"
    for place in (folder, out):
        shutil.rmtree(place, ignore_errors=True)
    grow(scene.images / "train", folder, images)
    scene.progress.start(f"{images} images of {size} px", 2, "runs")
    purified = stage("purify", str(out), source=str(folder), prior=str(scene.prior), size=size, **scene.running)
    scene.progress.advance()
    checked = child.run(CHECK, folder=str(out))
    scene.progress.advance()
    scene.progress.stop()
    for place in (folder, out):
        shutil.rmtree(place, ignore_errors=True)
    return [_row(PURIFY, images, size, purified), _row(SCAN, images, size, checked)]


def grow(source: Path, folder: Path, images: int) -> None:
    """`images` PNGs in class folders, the images of `source` in turn, as often as it takes."""
    listing = imagefolder.scan(source)
    entries = listing.entries
    pngs: dict[Path, Path] = {}
    for number in range(images):
        entry = entries[number * len(entries) // images if images < len(entries) else number % len(entries)]
        place = folder / str(entry.label) / f"{number:06d}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        if entry.file in pngs:
            _link(pngs[entry.file], place)
        else:
            place.write_bytes(imagefolder.encode_png(imagefolder.decode(entry.file).pixels))
            pngs[entry.file] = place


def _link(made: Path, place: Path) -> None:
    try:
        os.link(made, place)
    except OSError:
        shutil.copyfile(made, place)


def _row(verb: str, images: int, size: int, ended: child.Ended) -> Row:
    pixel = 1e6 * ended.seconds / images / size**2
    figures: dict[str, Any] = {"ms an image": 1000 * ended.seconds / images, PIXEL: pixel}
    what = f"{verb}, {images:,} images of {size} px"
    return Row(what, images, ended.seconds, None, 1, ended.peak_memory, figures=figures)


def _beside(row: Row, first: Row) -> Row:
    if row is first:
        return row
    mine, theirs = (float(found.figures[PIXEL] or 0) for found in (row, first))
    return replace(row, baseline=first.what, ratio=theirs / mine if mine else None)
