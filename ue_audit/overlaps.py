"""Which images the sets of an evaluation share: exact duplicates by digest, near ones by fingerprint. No files."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ue_audit import lookalikes
from ue_audit.decoding import pixels_sha256
from ue_audit.errors import IntegrityError
from ue_audit.imagedata import ImageData
from ue_audit.lookalikes import Prints

EXAMPLES = 3  # pairs named


class Set(NamedTuple):
    """Images as they are compared, row by row. A prior keeps no names, and an old one no fingerprints."""

    digests: list[str]  # of the pixels at the working size
    prints: Prints | None
    keys: list[str] | None = None
    crops: Prints | None = None  # of the same images cut a little, where there are pixels to cut


def exact(named: Mapping[str, Set]) -> dict[str, int]:
    """{"test ∩ prior": 3}: every pair of sets is listed, 0 included."""
    return {pair: len(set(a.digests) & set(b.digests)) for pair, a, b in _pairs(named)}


def near(named: Mapping[str, Set]) -> dict[str, dict[str, Any]]:
    """{"test ∩ prior": {"count", "of", "examples"}}: of the smaller set of each pair, the images that have a near
    duplicate in the other and no exact one. Pairs without fingerprints are left out."""
    return {pair: _near(a, b) for pair, a, b in _pairs(named) if a.prints is not None and b.prints is not None}


def raw(data: ImageData) -> dict[str, Any]:
    """What a prior keeps of its images for later comparisons: each once: digests, and fingerprints (a blur at most)."""
    rows = {digest: row for row, digest in reversed(list(enumerate(digests(data))))}
    kept = sorted(rows)
    found = lookalikes.prints(data.pixels)[[rows[digest] for digest in kept]]
    return {"raw_pixels": kept, "raw_prints": lookalikes.pack(found)}


def raw_set(priors: Iterable[Mapping[str, Any]]) -> Set | None:
    """The images of these priors as far as `raw` kept something of them; None where it did of none.

    Images of old priors without fingerprints are like no other. Raises IntegrityError for fingerprints that are none.
    """
    known = [notes for notes in priors if notes.get("raw_pixels")]
    if not known:
        return None
    found = [digest for notes in known for digest in notes["raw_pixels"]]
    if not any(notes.get("raw_prints") for notes in known):
        return Set(found, None)
    return Set(found, np.concatenate([_raw_prints(notes) for notes in known]))


def not_compared(priors: Iterable[tuple[str, Mapping[str, Any]]]) -> dict[str, list[str]]:
    """{"overlap": names, "near": names} of priors that have images of which nothing was kept to compare by."""
    named = sorted(priors, key=lambda prior: prior[0])
    return {
        kind: [name for name, notes in named if not notes.get(key) or _past(notes)]
        for kind, key in (("overlap", "raw_pixels"), ("near", "raw_prints"))
    }


def _past(notes: Mapping[str, Any]) -> bool:
    return notes.get("training_data") == "unknown"  # its own, or what it was fine-tuned from


def _raw_prints(notes: Mapping[str, Any]) -> Prints:
    expected = len(notes["raw_pixels"])
    if not notes.get("raw_prints"):
        return lookalikes.none(expected)
    try:
        prints = lookalikes.unpack(notes["raw_prints"])
    except ValueError as error:
        raise IntegrityError(f"the fingerprints of a prior's images are damaged: {error}") from error
    if len(prints) != expected:
        raise IntegrityError(f"expected {expected} fingerprints of a prior's images, found {len(prints)}")
    return prints


def of(data: ImageData) -> Set:
    return Set(digests(data), lookalikes.prints(data.pixels), data.keys, lookalikes.cropped(data.pixels))


def digests(data: ImageData) -> list[str]:
    """The first 16 hex digits of the sha256 of each image's pixels at the working size."""
    return [pixels_sha256(np.asarray(data.pixels[row]))[:16] for row in range(len(data))]


def _pairs(named: Mapping[str, Set]) -> Iterator[tuple[str, Set, Set]]:
    for a, b in combinations(named, 2):
        yield f"{a} ∩ {b}", named[a], named[b]


def _near(a: Set, b: Set) -> dict[str, Any]:
    ours, theirs = sorted((a, b), key=lambda images: len(images.prints))  # type: ignore[arg-type]
    found = _matches(ours, theirs)
    other = set(theirs.digests)
    rows = [int(row) for row in np.flatnonzero(found >= 0) if ours.digests[row] not in other]
    pairs = [[_name(ours, row), _name(theirs, int(found[row]))] for row in rows[:EXAMPLES]]
    return {"count": len(rows), "of": len(found), "examples": pairs}


def _matches(ours: Set, theirs: Set) -> NDArray[np.int64]:
    """(N,) as `lookalikes.matches`: whole images first, then each side cut a little against the whole other one."""
    assert ours.prints is not None and theirs.prints is not None
    found = lookalikes.matches(ours.prints, theirs.prints)
    cut = [(part, theirs.prints) for part in (ours.crops if ours.crops is not None else ())]
    cut += [(ours.prints, part) for part in (theirs.crops if theirs.crops is not None else ())]
    for left, right in cut:
        open_ = np.flatnonzero(found < 0)
        found[open_] = lookalikes.matches(left[open_], right, lookalikes.CUT_ALIKE)
    return found


def _name(images: Set, row: int) -> str | None:
    return images.keys[row] if images.keys is not None else None
