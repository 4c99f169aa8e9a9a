"""The change of an image in whole levels: quantised within a budget, written as PNG, measured on the re-read bytes."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


def quantise_all(images: Sequence[np.ndarray], levels: Sequence[np.ndarray], budget: Budget) -> list[Pixels]:
    """`quantise` for each image; small ones of one size at once, which is faster."""
    if len({x.shape for x in images}) == 1 < len(images):
        return list(quantise(np.stack(images), np.stack(levels), budget))
    return [quantise(x, change, budget) for x, change in zip(images, levels, strict=True)]


def quantise(x: np.ndarray, levels: np.ndarray, budget: Budget) -> Pixels:
    """clip(rint(x + levels)) of an image (H,W,3), or of several (B,H,W,3), as uint8, never outside the budget.

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
    most = budget.at(*x.shape[-3:-1])
    low, high = np.zeros(x.shape[:-3]), np.full(x.shape[:-3], 1.25)  # above 1: rounding to nearest can shrink a change
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        fits = np.sqrt(_squares(_difference(x, _round(x, _scaled(levels, middle))))) / 255 <= most
        low, high = np.where(fits, middle, low), np.where(fits, high, middle)
    return _round(x, _scaled(levels, low))


def _scaled(levels: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Each change times its image's factor."""
    scaled: np.ndarray = levels * factors.astype(levels.dtype)[..., None, None, None]
    return scaled


def _strongest(levels: np.ndarray, count: int) -> np.ndarray:
    """The change of the `count` pixels of each image where it is largest, 0 elsewhere; of equals the first."""
    size = np.square(levels).sum(-1)
    flat = size.reshape(*size.shape[:-2], -1)
    mask = np.zeros(flat.shape, bool)
    np.put_along_axis(mask, np.argsort(-flat, kind="stable")[..., :count], True, axis=-1)
    return np.where(mask.reshape(*size.shape, 1), levels, 0)


def _round(x: np.ndarray, levels: np.ndarray) -> Pixels:
    rounded: Pixels = np.clip(np.rint(x + levels), 0, 255).astype(np.uint8)
    return rounded


def _difference(x: Pixels, y: Pixels) -> np.ndarray:
    """y - x in whole levels, in two bytes: photos have 50 million pixels."""
    return np.subtract(y, x, dtype=np.int16)


def _squares(change: np.ndarray) -> np.ndarray:
    """The sum of squares of every image, exactly."""
    squares: np.ndarray = np.square(change, dtype=np.int32).sum((-3, -2, -1), dtype=np.int64)
    return squares


def measure(x: Pixels, y: Pixels) -> dict[str, Any]:
    """What a record says of a change: linf in levels, l2 in [0,1] units, changed pixels, psnr in dB (None: equal)."""
    change = _difference(x, y)
    squares = int(_squares(change))
    return {
        "linf": int(np.abs(change).max()),
        "l2": float(np.sqrt(squares) / 255),
        "changed": int(np.any(change != 0, axis=2).sum()),
        "psnr": 10 * float(np.log10(255**2 / (squares / x.size))) if squares else None,
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
