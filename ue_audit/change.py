"""The change of an image in whole levels: quantised within a budget, written as PNG, measured on the re-read bytes."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ue_audit import imagefolder
from ue_audit.budget import Budget
from ue_audit.errors import IntegrityError
from ue_audit.imagefolder import Pixels

BISECTIONS = 20
SMALL = 2**14  # pixels: below, threads wait for each other more than they help (32 px: 640 images/s alone, 460 by two)


@contextmanager
def mapping(pixels: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """`map` for work on images of so many pixels: by threads where PNG coding, which lets others run, outweighs it."""
    if pixels < SMALL:
        yield map
    else:
        with ThreadPoolExecutor() as pool:
            yield pool.map


def quantise(x: np.ndarray, levels: np.ndarray, budget: Budget) -> Pixels:
    """clip(rint(x + levels)) as uint8 (H,W,3), never outside the budget.

    linf: exact, since x is whole and |levels| is clipped to the limit. l2: the largest factor, found by bisection,
    whose rounded and clipped change keeps the limit (reference: rounding alone breaks it for a third of images).
    l0: the pixels that change most.
    """
    if budget.norm == "linf":
        limit = np.rint(255 * budget.limit)
        return _round(x, np.clip(levels, -limit, limit))
    if budget.norm == "l0":
        return _round(x, _strongest(levels, int(budget.limit)))
    if budget.norm == "none":
        return _round(x, levels)
    most = budget.at(x.shape[0], x.shape[1])
    low, high = 0.0, 1.25  # above 1, since rounding to nearest can shrink a change
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if l2(x, _round(x, middle * levels)) <= most else (low, middle)
    return _round(x, low * levels)


def _strongest(levels: np.ndarray, count: int) -> np.ndarray:
    """The change of the `count` pixels where it is largest, 0 elsewhere; of equals the first."""
    size = np.square(levels).sum(2)
    kept = np.argsort(-size, axis=None, kind="stable")[:count]
    mask = np.zeros(size.size, bool)
    mask[kept] = True
    return np.where(mask.reshape(*size.shape, 1), levels, 0)


def _round(x: np.ndarray, levels: np.ndarray) -> Pixels:
    rounded: Pixels = np.clip(np.rint(x + levels), 0, 255).astype(np.uint8)
    return rounded


def l2(x: Pixels, y: Pixels) -> float:
    """||y - x||_2 of two uint8 images in [0,1] units, from whole numbers."""
    return float(np.sqrt(_squares(_difference(x, y))) / 255)


def _difference(x: Pixels, y: Pixels) -> np.ndarray:
    """y - x in whole levels, in two bytes: photos have 50 million pixels."""
    return np.subtract(y, x, dtype=np.int16)


def _squares(change: np.ndarray) -> int:
    """The sum of squares, exactly."""
    return int(np.square(change, dtype=np.int32).sum(dtype=np.int64))


def psnr(x: Pixels, y: Pixels) -> float | None:
    """10 log10(255^2 / MSE) in dB; None for two equal images."""
    error = _squares(_difference(x, y)) / x.size
    return 10 * float(np.log10(255**2 / error)) if error else None


def measure(x: Pixels, y: Pixels) -> dict[str, Any]:
    """What a record says of a change: linf in levels, l2 in [0,1] units, changed pixels, psnr in dB."""
    change = _difference(x, y)
    return {
        "linf": int(np.abs(change).max()),
        "l2": l2(x, y),
        "changed": int(np.any(change != 0, axis=2).sum()),
        "psnr": psnr(x, y),
    }


def encode(x: Pixels, x_ue: Pixels, budget: Budget, path: str) -> tuple[bytes, Pixels, dict[str, Any]]:
    """The PNG, its re-read pixels and what is true of them. Raises IntegrityError if they break the budget."""
    png = imagefolder.encode_png(x_ue)
    written = imagefolder.decode(png).pixels
    if not budget.holds(x, written):
        raise IntegrityError(
            f"{path}: expected a change of at most {budget.at(*x.shape[:2]):g} ({budget.norm}), "
            f"found {budget.measure(x, written):g} in the written bytes",
            hint="nothing of this shard was kept; please report it",
        )
    record = {
        "sha256": hashlib.sha256(png).hexdigest(),
        "pixels_sha256": imagefolder.pixels_sha256(written),
        "width": written.shape[1],
        "height": written.shape[0],
    }
    return png, written, record | measure(x, written)


def reread(
    output: Path, clean: Path, records: Iterable[Mapping[str, Any]]
) -> Iterator[tuple[Pixels, Pixels, str | None]]:
    """(x, x_ue, label) of these records of an output, from the files; x at the size x_ue was written in."""
    for record in records:
        x_ue = imagefolder.decode(output / record["path"]).pixels
        x = imagefolder.resized(imagefolder.decode(clean / record["source"]).pixels, x_ue.shape[1], x_ue.shape[0])
        yield x, x_ue, record["label"]
