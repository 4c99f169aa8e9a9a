"""From candidates to parts: every image is decoded once, copies are found, and each gets its place in the split."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ue_audit import lookalikes, splitting
from ue_audit.candidates import Candidate, Found
from ue_audit.change import mapping
from ue_audit.decoding import BadImage, decode, ending, pixels_sha256
from ue_audit.errors import InputRefused, UsageError
from ue_audit.imagefolder import judge, told
from ue_audit.lookalikes import Prints
from ue_audit.names import printable, twins, unwritable
from ue_audit.progress import Progress
from ue_audit.scanning import PARTS, Refusal
from ue_audit.splitting import Unit
from ue_audit.tool_settings import SplitSettings

FAMILY, FAMILY_SHARE = 30, 0.01  # images that look alike and stay together: a burst, not a kind of picture
FIRST = ("test", "val", None, "raw")  # of an image that is in two parts of the source, the first of these keeps it


class Image(NamedTuple):
    """A candidate that was decoded: where it goes below its part, and what its bytes are."""

    candidate: Candidate
    path: str
    sha256: str
    pixels_sha256: str
    width: int
    height: int
    size: int
    actions: tuple[str, ...]
    fingerprint: Prints


class Placed(NamedTuple):
    """Images with their parts, and those left out because another part of the source has them."""

    images: list[tuple[str, Image]]
    left_out: list[Image]
    refused: list[Refusal]
    copies: int  # images that another equals
    alike: int  # further images that another looks like
    parted: int  # pairs that look alike, in two parts that the source had
    families: int  # images in families too large to keep together


def look(found: Found, progress: Progress) -> list[Image | Refusal]:
    """Every candidate decoded once, in their order; nothing of the pixels is kept."""
    progress.start("reading", len(found.candidates))
    looked = []
    with mapping(_pixels_of_first(found)) as each:
        for image in each(_looked, found.candidates):
            looked.append(image)
            progress.advance()
    progress.stop()
    return looked


def _pixels_of_first(found: Found) -> int:
    first = next((image for image in map(_looked, found.candidates[:1]) if isinstance(image, Image)), None)
    return first.width * first.height if first else 1


def _looked(candidate: Candidate) -> Image | Refusal:
    try:
        held = candidate.data if isinstance(candidate.data, Path) else candidate.data()
        pixels, sha256, actions = decode(held)
    except BadImage as bad:
        return Refusal(printable(candidate.origin), bad.reason, bad.detail)
    size = held.stat().st_size if isinstance(held, Path) else len(held)
    path = candidate.path if isinstance(held, Path) else f"{candidate.path}{ending(held)}"
    height, width = pixels.shape[:2]
    print_ = lookalikes.prints([pixels])[0]
    return Image(candidate, path, sha256, pixels_sha256(pixels), width, height, size, actions, print_)


# -- placing -----------------------------------------------------------------------------------------------------


def place(settings: SplitSettings, found: Found, looked: list[Image | Refusal]) -> Placed:
    """Which image goes where. Raises InputRefused, and UsageError if a part would be empty."""
    images = [image for image in looked if isinstance(image, Image)]
    refused = sorted([*found.refused, *(refusal for refusal in looked if isinstance(refusal, Refusal))])
    if not found.candidates:
        hint = "--from says what form a set has: hf for parquet files, cifar10 and others for torchvision's"
        raise UsageError(f"no images in {found.root}", hint=hint, details=map(str, refused))
    judge(found.root, refused, len(images), settings.on_bad, settings.max_bad)
    images, left_out = _once(images)
    alike, families = near_duplicates(images)
    free = [row for row, image in enumerate(images) if image.candidate.part is None]
    at = {row: number for number, row in enumerate(free)}
    units = [Unit(images[row].candidate.label, images[row].pixels_sha256) for row in free]
    pairs = [(at[a], at[b]) for a, b in alike if a in at and b in at]
    drawn = splitting.assign(units, _shares(settings, found), settings.seed, pairs)
    parts = [image.candidate.part or drawn[at[row]] for row, image in enumerate(images)]
    single, apart = len(splitting.groups(units)), len(splitting.groups(units, pairs))
    placed = Placed(
        images=list(zip(parts, images, strict=True)),
        left_out=left_out,
        refused=refused,
        copies=len(units) - single,
        alike=single - apart,
        parted=sum(parts[a] != parts[b] for a, b in alike),
        families=families,
    )
    _check(settings, found, placed)
    return placed


def near_duplicates(images: list[Image]) -> tuple[list[tuple[int, int]], int]:
    """(pairs, images): rows that show nearly the same picture, and how many are in families too large to be kept whole.

    Where everything looks alike (digits, X-rays), chains of pairs would tie a whole set together.
    """
    pairs = lookalikes.pairs(np.stack([image.fingerprint for image in images]))
    most = max(FAMILY, int(FAMILY_SHARE * len(images)))
    families = splitting.groups([Unit(None, str(row)) for row in range(len(images))], pairs)
    large = {row for family in families if len(family) > most for row in family}
    return [pair for pair in pairs if pair[0] not in large], len(large)


def _once(images: list[Image]) -> tuple[list[Image], list[Image]]:
    """(kept, left out): what several parts of the source have stays in the part that is first in FIRST."""
    best = {part: rank for rank, part in enumerate(FIRST)}
    gone: set[int] = set()
    for group in splitting.groups([Unit(None, image.pixels_sha256) for image in images]):
        first = min(best[images[row].candidate.part] for row in group)
        gone |= {row for row in group if best[images[row].candidate.part] != first}
    kept = [image for row, image in enumerate(images) if row not in gone]
    return kept, [images[row] for row in sorted(gone)]


def _shares(settings: SplitSettings, found: Found) -> dict[str, float]:
    shares = {"test": settings.test_share, "val": settings.val_share, "raw": settings.raw_share}
    return {part: share for part, share in shares.items() if part not in found.kept}


def sizes(placed: Placed) -> dict[str, int]:
    """Images in each part, in the order of PARTS."""
    counts = Counter(part for part, _ in placed.images)
    return {part: counts[part] for part in PARTS}


def _check(settings: SplitSettings, found: Found, placed: Placed) -> None:
    """Raises UsageError for parts that would be empty, InputRefused for names that would meet."""
    found_sizes, shares = sizes(placed), _shares(settings, found)
    empty = [part for part in PARTS if not found_sizes[part] and (part == "train" or shares.get(part))]
    if empty:
        part = empty[0]
        remedy = "gather more images" if part == "train" else f"give it more (--{part} 40%) or nothing (--{part} 0)"
        raise UsageError(
            f"{found.root}: {len(placed.images)} images are too few, {' and '.join(empty)} would be empty", hint=remedy
        )
    names = Counter(f"{part}/{image.path}" for part, image in placed.images)
    meeting = [*(name for name, count in names.items() if count > 1), *twins(names)]
    if meeting:
        raise InputRefused(
            f"{found.root}: {len(meeting)} images would share a name", hint="rename them", details=sorted(meeting)
        )


def warnings(found: Found, placed: Placed) -> Iterator[str]:
    """What an owner should know of the split."""
    yield from found.warnings
    if placed.refused:
        yield f"{len(placed.refused)} files were left out, the first: {placed.refused[0]}"
    yield from told(Counter(action for _, image in placed.images for action in image.actions))
    yield from unwritable(image.path for _, image in placed.images)
    if placed.left_out:
        yield (
            f"{len(placed.left_out)} images were left out: another part of the source has the same picture, the first "
            f"{placed.left_out[0].candidate.origin}"
        )
    if placed.copies:
        yield f"{placed.copies} images are exact copies of others; copies were kept in one part"
    if placed.alike:
        yield f"{placed.alike} images look like others (resized, compressed, a burst); they were kept in one part"
    if placed.families:
        yield (
            f"{placed.families} images look so much like each other that near copies among them were not kept in one "
            "part; exact copies were"
        )
    if placed.parted:
        yield f"{placed.parted} pairs of images look alike and lie in two parts that the source has"
    labels: dict[str, set[str | None]] = {}
    for _, image in placed.images:
        labels.setdefault(image.pixels_sha256, set()).add(image.candidate.label)
    if torn := sum(len(names) > 1 for names in labels.values()):
        yield f"{torn} pictures lie in more than one class"
    classes = {image.candidate.label for part, image in placed.images if part == "train"}
    for part in ("test", "val"):
        lacking = sorted(map(str, classes - {image.candidate.label for p, image in placed.images if p == part}))
        if lacking and sizes(placed)[part]:
            yield f"{part} has no image of {len(lacking)} of {len(classes)} classes: {', '.join(lacking[:5])}"
