"""What a change is like, whatever made it: can its class be read off linearly, and how much of it is fine detail.

    separability           held-out accuracy of a linear classifier that sees nothing but the changes (LSP: 1)
    high_frequency_share   energy above half the Nyquist frequency (white noise: 3/4; above it, JPEG takes it out)

Changes are whole levels (H,W,3), as re-read from the written files. Nothing here is drawn at random.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

IMAGES = 4000  # looked at, at most
PIXELS = 2**26  # and at most as many pixels: 1,337 images of 224 px
SIDE = 32  # the classifier sees larger changes as means of areas
TILE = 256  # the frequencies of larger changes are those of their middle
RIDGE = 1.0  # of the discriminant, times the mean eigenvalue of its kernel
FEWEST = 20  # images, below which an accuracy says nothing

Array = NDArray[Any]


class Look(NamedTuple):
    """What is kept of one change: it at `SIDE` pixels at most, its class, its energy at low frequencies and in all."""

    small: Array
    label: str
    low: float
    whole: float


def look(x: Array, x_ue: Array, label: str | None) -> Look:
    delta = x_ue.astype(np.int16) - x
    small = shrunk(delta, min(SIDE, delta.shape[0]), min(SIDE, delta.shape[1]))
    return Look(small, label or "", *_energy(delta))


def traits(looks: Iterable[Look]) -> dict[str, Any]:
    """Both figures over these changes, their number, and the accuracy of guessing."""
    seen = list(looks)
    labels, low, whole = [s.label for s in seen], sum(s.low for s in seen), sum(s.whole for s in seen)
    height, width = (min((s.small.shape[axis] for s in seen), default=0) for axis in (0, 1))
    alike = np.array([shrunk(s.small, height, width) for s in seen])
    accuracy = separability(alike, labels) if whole else None
    return {
        "separability": None if accuracy is None else round(accuracy, 4),
        "chance": None if accuracy is None else round(_chance(labels), 4),
        "high_frequency_share": round(1 - low / whole, 4) if whole else None,
        "images": len(seen),
    }


def sample(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The records (in the order of their paths) to look at: all, or evenly spread within every class."""
    count = most(max((r["width"] * r["height"] for r in records), default=1))
    if len(records) <= count:
        return list(records)
    step = len(records) / count
    ordered = sorted(records, key=lambda r: str(r["label"]))  # stable: paths stay in order within a class
    return [ordered[int(i * step)] for i in range(count)]


def most(pixels: int) -> int:
    """How many images are looked at, where the largest has so many pixels."""
    return max(FEWEST, min(IMAGES, PIXELS // pixels))


# -- a linear classifier -------------------------------------------------------------------------------------


def separability(deltas: Array, labels: Sequence[Any]) -> float | None:
    """Held-out accuracy in [0,1] of a regularised linear discriminant on the changes (N,H,W,3), in dual form.

    Of each class every second image in the given order is learnt from and the others are asked for. None where that
    says nothing: one class, a class of one image, fewer than 20 images.
    """
    numbers = np.unique(np.asarray(labels), return_inverse=True)[1].ravel()
    counts = np.bincount(numbers) if len(numbers) else np.zeros(0, int)
    if len(counts) < 2 or counts.min() < 2 or len(numbers) < FEWEST:
        return None
    side = min(SIDE, deltas.shape[1]), min(SIDE, deltas.shape[2])
    features = np.stack([shrunk(delta, *side).ravel() for delta in deltas])  # (N, F)
    learnt = place_in_class(numbers) % 2 == 0
    scores = discriminant(features[learnt], numbers[learnt], features[~learnt])
    return float(np.mean(scores.argmax(1) == numbers[~learnt]))


def discriminant(x: Array, numbers: Array, asked: Array) -> Array:
    """Scores (A, K) of a regularised linear discriminant: log p_k + n (a' S m_k - m_k' S m_k / 2), from the mean of m.

    S = (W'W + lambda I)^-1 for the (n, F) changes W about their class means; by Woodbury's identity that is
    (I - W'(WW' + lambda I)^-1 W) / lambda, which needs no (F, F) matrix.
    """
    counts = np.bincount(numbers)
    means = np.stack([x[numbers == k].mean(0) for k in range(len(counts))])
    within, centre = x - means[numbers], means.mean(0)
    means, asked = means - centre, asked - centre
    kernel = (within @ within.T).astype(np.float64)
    ridge = RIDGE * np.trace(kernel) / len(x) or 1.0  # classes without any scatter: the nearest mean
    kernel[np.diag_indices_from(kernel)] += ridge
    directions = (means - np.linalg.solve(kernel, within @ means.T).T @ within) / ridge  # (K, F)
    scores: Array = asked @ directions.T - (means * directions).sum(1) / 2
    return len(x) * scores + np.log(counts / len(x))


def place_in_class(numbers: Array) -> Array:
    """Of each image how many of its class come before it."""
    order = np.argsort(numbers, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(numbers))[:-1]])
    place = np.empty_like(order)
    place[order] = np.arange(len(order)) - starts[numbers[order]]
    return place


def _chance(labels: Sequence[str]) -> float:
    """The share of the largest class: what always guessing it scores."""
    return float(max(np.unique(np.asarray(labels), return_counts=True)[1]) / len(labels))


def shrunk(delta: Array, height: int, width: int) -> Array:
    """Means of areas: (H,W,3) -> (height,width,3) float32, at most as large as it was."""
    for axis, side in enumerate((height, width)):
        if delta.shape[axis] != side:
            edges = np.arange(side + 1) * delta.shape[axis] // side
            sums = np.add.reduceat(delta.astype(np.float32), edges[:-1], axis=axis)
            delta = sums / np.diff(edges).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
    return delta.astype(np.float32, copy=False)


# -- frequencies -----------------------------------------------------------------------------------------------


def high_frequency_share(deltas: Array) -> float | None:
    """The share, in [0,1], of the energy of changes (N,H,W,3) above half the Nyquist frequency along either axis.

    By the orthonormal discrete cosine transform of each channel, whose coefficient k of n has frequency k/2n cycles a
    pixel: high are those with k >= n/2 in a row or a column. The mean is kept; it is low. None if nothing changed.
    """
    pairs = [_energy(delta) for delta in deltas]
    low, whole = sum(below for below, _ in pairs), sum(total for _, total in pairs)
    return 1 - low / whole if whole else None


def _energy(delta: Array) -> tuple[float, float]:
    """The energy of a change (its middle, if it is large) at low frequencies, and the whole of it."""
    top, left = (max(0, side - TILE) // 2 for side in delta.shape[:2])
    tile = delta[top : top + TILE, left : left + TILE].astype(np.float32)
    down, along = (cosines(side)[: (side + 1) // 2] for side in tile.shape[:2])
    rows = (down @ tile.reshape(len(tile), -1)).reshape(-1, *tile.shape[1:])
    low = along @ rows
    whole = float(np.square(tile, dtype=np.float64).sum())
    return min(float(np.square(low, dtype=np.float64).sum()), whole), whole


@lru_cache(maxsize=64)
def cosines(n: int) -> Array:
    """The orthonormal DCT-II of n values: (n, n) float32."""
    k, i = np.arange(n)[:, None], np.arange(n)[None]
    found: Array = np.sqrt(2 / n) * np.cos(np.pi * (2 * i + 1) * k / (2 * n))
    found[0] /= np.sqrt(2)
    single: Array = found.astype(np.float32)
    return single
