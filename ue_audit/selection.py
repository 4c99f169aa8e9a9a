"""Protecting a share of the images: which ones, and a change that is zero for the others."""

import math
from collections import defaultdict
from typing import Any

import torch

from ue_audit.imagedata import ImageData
from ue_audit.tools import substream


def select(data: ImageData, ratio: float, seed: int) -> list[int]:
    """Rows of `ratio` of every class (of all images without classes), rounded up, in order of rows.

    Which ones depends on seed and relative path only; a smaller ratio takes a part of what a larger one takes.
    """
    if ratio == 1:
        return list(range(len(data)))
    labels = [0] * len(data) if data.labels is None else data.labels.tolist()
    groups: dict[int, list[int]] = defaultdict(list)
    for row in sorted(range(len(data)), key=lambda row: substream(seed, "ratio", data.keys[row])):
        groups[labels[row]].append(row)
    return sorted(row for rows in groups.values() for row in rows[: math.ceil(ratio * len(rows) - 1e-9)])


class Spread:
    """delta over all rows of a set, from the delta of a part of them; the others are left as they are."""

    def __init__(self, delta: Any, rows: list[int], count: int, size: int) -> None:
        self._delta, self._size = delta, size
        self._place = torch.full((count,), -1)
        self._place[rows] = torch.arange(len(rows))
        if hasattr(delta, "native"):
            self.native = self._native

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        changes = torch.zeros(len(rows), 3, self._size, self._size)
        chosen = self._place[rows] >= 0
        if chosen.any():
            changes[chosen] = self._delta(self._place[rows][chosen]).detach().float().cpu()
        return changes

    def _native(self, row: int, x: torch.Tensor) -> torch.Tensor:
        place = int(self._place[row])
        return torch.zeros_like(x) if place < 0 else self._delta.native(place, x)
