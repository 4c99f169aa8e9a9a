"""Which image goes to which part of a split: by content and seed alone, class by class, copies together.

A class is put in an order that only its own images and the seed decide. `test`, `val` and `raw` take their share from
the front, `train` has the rest. So a file that is renamed stays where it is, and one that is added moves about one
other at each boundary.
"""

import hashlib
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

DRAWN = ("test", "val", "raw")  # in the order in which a class too small for all of them serves them


class Unit(NamedTuple):
    """An image to place: its class (None without), and a digest of its pixels."""

    label: str | None
    pixels: str


def groups(units: Sequence[Unit], alike: Iterable[tuple[int, int]] = ()) -> list[list[int]]:
    """Rows that must stay together: equal pixels, and the pairs in `alike`. In the order of their first rows."""
    of: dict[str, int] = {}
    parent = [of.setdefault(unit.pixels, row) for row, unit in enumerate(units)]

    def first(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for left, right in alike:
        low, high = sorted((first(left), first(right)))
        parent[high] = low
    found: dict[int, list[int]] = defaultdict(list)
    for row in range(len(units)):
        found[first(row)].append(row)
    return list(found.values())


def assign(
    units: Sequence[Unit], shares: Mapping[str, float], seed: int, alike: Iterable[tuple[int, int]] = ()
) -> list[str]:
    """The part of each row; `shares` of the parts in DRAWN, in 0..1 and together under 1, the rest is "train".

    Of each class with two images or more `test` gets at least one, then `val`; `train` always does. Shares that make
    no whole image are rounded by class, up in as many classes as the share says. A group belongs to its first row's
    class; one too large for what a part still wants is left to the next.
    """
    classes: dict[str | None, list[list[int]]] = defaultdict(list)
    for group in groups(units, alike):
        classes[units[group[0]].label].append(group)
    parts = ["train"] * len(units)
    for label, found in classes.items():
        waiting = sorted(found, key=lambda group: _place(seed, min(units[row].pixels for row in group)))
        images = sum(map(len, found))
        for part in DRAWN:
            drawn = _drawn(waiting, _wanted(part, shares.get(part, 0.0), images, f"{seed}\n{label}"))
            for row in (row for group in drawn for row in group):
                parts[row] = part
            waiting = [group for group in waiting if parts[group[0]] == "train"]
    return parts


def _wanted(part: str, share: float, images: int, name: str) -> int:
    """How many of a class's images a part should get."""
    fewest = 1 if share > 0 and part != "raw" else 0
    return max(fewest, math.floor(round(share * images, 9) + _place(part, name)))


def _drawn(waiting: Sequence[list[int]], wanted: int) -> list[list[int]]:
    """Groups from the front of the order that fit, else the smallest; one group is always left for `train`."""
    drawn: list[list[int]] = []
    left = wanted
    for group in waiting:
        if len(group) <= left and len(drawn) < len(waiting) - 1:
            drawn.append(group)
            left -= len(group)
    if wanted and not drawn and len(waiting) > 1:
        drawn = [min(waiting, key=len)]
    return drawn


def _place(*names: object) -> float:
    """A number in [0,1) that only these names decide."""
    digest = hashlib.sha256("\n".join(map(str, names)).encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:6], "big") / 2**48
