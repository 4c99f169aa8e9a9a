"""detect: is this set protected at all, and by what kind? From the labelled images alone, in seconds.

A protection that makes a set unlearnable is a shortcut: it tells the class where nobody looks. Each probe of
detection.py asks for one kind of shortcut and is held against bounds, what clean sets show; two probes beyond theirs
are a yes, one is "likely". No evidence is no proof: what is unrelated to the labels (UC, CP) is not looked for; and a
set whose classes were photographed or compressed differently has shortcuts that nobody put there.

Bounds were set on 173 draws of 2 to 20 classes, 200 to 2,000 images, of CIFAR-10, CIFAR-100 and Oxford Pets (64 px).
On 105 fresh draws of test images (88 CIFAR-10, 17 CIFAR-100): yes 0 (95 % interval 0 to 3.5 %), likely 3 (0.6 to 8.1 %,
all by `shifted`). Draws share images, so the intervals are rather too narrow; bounds from 53 draws of CIFAR-10 alone
gave 5 yes and 24 likely on 120 others, mostly of CIFAR-100: other kinds of pictures may need wider ones.
Sets of 2,000 protected images, one of each: yes for emn, emn_class, remn, sem, aue, tap, ar, ops, cuda, pil, lsp,
likely for sep; with these in view the probes were chosen, and how many images are many, but no bound was set. Of six
cheap methods on other classes 17 of 18 yes, one likely (lsp, 500 images). Of 400 images sem, remn and sep are missed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ue_audit import detection, distances, imagefolder, pairing, traits
from ue_audit.detection import Array, Found
from ue_audit.errors import InputRefused, UsageError
from ue_audit.imagefolder import Intake
from ue_audit.progress import SILENT, Progress
from ue_audit.tool_settings import DetectSettings
from ue_audit.tools import pick_device

FEWEST, FEWEST_EACH = 100, 4  # images, and images of a class, below which the probes say nothing
MANY_IMAGES, MANY_CLASSES = 1000, 3  # from which on clean sets differ less, and the bounds are tighter
YES = 2  # probes beyond their bounds
ONE_PIXEL = 0.01  # of the positions, at most: the change is one of pixels
CLASS_WISE = 0.5  # of the energy of a change, in the means of classes
ORDER = ("jpeg", "median", "grayscale")  # of purifiers to try: what takes out most comes first


class Bound(NamedTuple):
    """What a probe shows on clean sets: the median, and a bound that they hardly reach.

    It lies half as far again from the median as the largest of the clean sets, and at most half way from there to 1.
    """

    clean: float
    bound: float


Bounds = Mapping[str, Bound]

FEW: Bounds = {
    "pixels": Bound(0.476, 0.925),
    "two_layer": Bound(0.43, 0.93),
    "shifted": Bound(0.047, 0.875),
    "spectrum": Bound(0.527, 0.93),
    "fragile": Bound(0.069, 0.355),
    "colour": Bound(0.13, 0.655),
    "mean_low": Bound(0.058, 0.38),
    "mean_mid": Bound(0.0, 0.006),
    "mean_high": Bound(0.0, 0.002),
    "one_pixel": Bound(0.0, 0.375),
}
MANY: Bounds = {
    "pixels": Bound(0.266, 0.674),
    "two_layer": Bound(0.093, 0.643),
    "shifted": Bound(0.002, 0.303),
    "spectrum": Bound(0.313, 0.759),
    "fragile": Bound(0.069, 0.153),
    "colour": Bound(0.104, 0.265),
    "mean_low": Bound(0.075, 0.278),
    "mean_mid": Bound(0.0, 0.003),
    "mean_high": Bound(0.0, 0.002),
    "one_pixel": Bound(0.0, 0.25),
}
"""For two classes or fewer than 1,000 images, and for more of both."""


@dataclass(frozen=True)
class Verdict:
    """Is it protected, which probes say so, what kind it is, whether grey takes it out, purifiers to try first."""

    protected: str  # "yes", "likely" or "no evidence"
    beyond: tuple[str, ...]
    kind: str | None
    coloured: bool
    suggestions: tuple[str, ...]


def run(settings: DetectSettings, progress: Progress = SILENT) -> dict[str, Any]:
    """What is found, in plain values; nothing is written.

    Raises UsageError for fewer than two classes or too few images, InputRefused for what cannot be taken in or, with
    `clean`, has no counterpart.
    """
    taken = imagefolder.take_in(imagefolder.parts(settings.source).train, settings, progress=progress)
    numbers = np.asarray(taken.data.labels)
    _check(taken, numbers)
    progress.start("probing", 1, "sets")
    found = detection.probe(taken.data.pixels, numbers, seed=settings.seed, device=str(pick_device(settings.device)))
    progress.advance()
    progress.stop()
    bounds = bounds_of(len(taken.data.classes), len(numbers))
    verdict = judge(found, bounds)
    document = {
        "folder": str(settings.source),
        "images": len(taken.data),
        "classes": len(taken.data.classes),
        "size": taken.data.size,
        "protected": verdict.protected,
        "kind": verdict.kind,
        "coloured": verdict.coloured,
        "suggestions": list(verdict.suggestions),
        "probes": [_row(name, found, bound) for name, bound in bounds.items()],
        "after": {name: {key: round(value, 4) for key, value in row.items()} for name, row in found.after.items()},
        "warnings": taken.warnings(),
    }
    if settings.clean is not None:
        document["change"] = change(taken, _originals(taken, settings.clean, settings.size), settings.seed)
    return document


def _check(taken: Intake, numbers: Array) -> None:
    fewest = int(np.bincount(numbers).min())
    if len(taken.data.classes) < 2 or len(numbers) < FEWEST or fewest < FEWEST_EACH:
        raise UsageError(
            f"{taken.listing.root}: expected at least 2 classes, {FEWEST} images and {FEWEST_EACH} of each class, "
            f"found {len(numbers)} images in {len(taken.data.classes)} classes, the smallest of {fewest}",
            hint="--limit says how many images are looked at",
        )


def bounds_of(classes: int, images: int) -> Bounds:
    """What to hold the probes of such a set against."""
    return MANY if classes >= MANY_CLASSES and images >= MANY_IMAGES else FEW


def _row(name: str, found: Found, bound: Bound) -> dict[str, Any]:
    row = {"probe": name, "found": round(found.figures[name], 4), "clean": bound.clean, "bound": bound.bound}
    row["beyond"] = found.figures[name] > bound.bound
    return row | ({"p": found.p_values[name]} if name in found.p_values else {})


# -- the verdict -------------------------------------------------------------------------------------------------


def judge(found: Found, bounds: Bounds) -> Verdict:
    """The verdict on figures: how many probes are beyond their bounds, and which."""
    beyond = tuple(name for name, bound in bounds.items() if found.figures[name] > bound.bound)
    if not beyond:
        return Verdict("no evidence", (), None, False, ())
    outlived = {name: any(row[key] > bounds[key].bound for key in row) for name, row in found.after.items()}
    low = found.after["jpeg"]["pixels"] > bounds["pixels"].bound
    kind, coloured = _kind(set(beyond), low), "colour" in beyond
    protected = "yes" if len(beyond) >= YES else "likely"
    return Verdict(protected, beyond, kind, coloured, _cheapest(kind, coloured, outlived))


def _kind(beyond: set[str], low: bool) -> str:
    """By the probes that see it; a class-wise shortcut is low-frequency if JPEG leaves it to a linear classifier."""
    if "one_pixel" in beyond:
        return "one pixel"
    if beyond & {"pixels", "mean_low", "mean_mid", "mean_high"}:
        return f"class-wise {'low' if low else 'high'}-frequency"
    return "sample-wise"


def _cheapest(kind: str, coloured: bool, outlived: Mapping[str, bool]) -> tuple[str, ...]:
    """Purifiers to try first: the one made for this kind, then those after which no classifier is beyond its bound.

    Grey is for what is coloured, a median for one pixel, JPEG for high frequencies (Liu et al. 2023, arXiv 2301.13838).
    """
    own = ["median"] if kind == "one pixel" else ["grayscale"] if coloured else []
    return tuple(dict.fromkeys([*own, *(name for name in ORDER if not outlived[name])]))


# -- against the clean originals ---------------------------------------------------------------------------------


def change(taken: Intake, x: Array, seed: int) -> dict[str, Any]:
    """What was changed, image by image: how much of it, in which bands, in the means of classes; and its kind."""
    x_ue = taken.data.pixels
    delta = x_ue.astype(np.int16) - x
    moved = (delta != 0).any(3).mean((1, 2))  # (N,)
    numbers, changed = np.asarray(taken.data.labels), moved > 0
    if not changed.any():
        return {"images_changed": 0.0, "kind": None}
    residual = imagefolder.to_float(x_ue) - imagefolder.to_float(x)
    low, mid, high = distances.bands(residual[changed]).mean(0).tolist()
    share, p = detection.class_means(delta.reshape(len(delta), -1).astype(np.float32), numbers, seed)
    kind = "sample-wise"
    if np.median(moved[changed]) <= ONE_PIXEL:
        kind = "one pixel"
    elif share > CLASS_WISE:
        kind = f"class-wise {'low' if low > max(mid, high) else 'high'}-frequency"
    found = {"low": low, "mid": mid, "high": high, "class_means": share, "class_means_p": p}
    found |= {"separability": traits.separability(delta, numbers.tolist()), "grey": _grey(delta)}
    rounded = {name: None if value is None else round(float(value), 4) for name, value in found.items()}
    return {"images_changed": float(changed.mean()), "levels": int(np.abs(delta).max()), **rounded, "kind": kind}


def _grey(delta: Array) -> float:
    """The share of the energy of changes that is the same in all channels."""
    whole = np.square(delta, dtype=np.float64).sum()
    return float(3 * np.square(delta.mean(3, dtype=np.float64)).sum() / whole)


def _originals(taken: Intake, clean: Path, size: int | None) -> Array:
    """The clean pixels of every row, found by path."""
    listing = imagefolder.scan(imagefolder.parts(clean).train)
    entries = [imagefolder.Entry(s.path, s.label, taken.listing.root / s.path) for s in taken.sources]
    pairs = pairing.pair(listing.entries, entries, flat=False)
    of = {protected.path: clean for clean, protected in pairs.matched}
    lacking = [source.path for source in taken.sources if source.path not in of]
    if lacking:
        raise InputRefused(
            f"{clean}: {len(lacking)} of {len(taken.sources)} images have no original there",
            hint="expected the same class folders and names (endings may differ)",
            details=lacking,
        )
    chosen = imagefolder.Listing(listing.root, tuple(of[s.path] for s in taken.sources), taken.data.classes, ())
    return imagefolder.intake(chosen, size=size or taken.data.size).data.pixels
