"""The provenance graph of report.html: what was made from what, the owner's images on the left, the evaluation right.

Places are in pixels of a drawing that scales with the page. Every box also stands in the table below it, with all that
it was made from: the drawing leaves out what another parent already leads to.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Report = Mapping[str, Any]
MOST = 28  # boxes; more would not be read
ACROSS, DOWN = 216, 52  # from box to box
WIDTH, HEIGHT = 168, 38  # of a box
LETTERS = 24  # of a name that fit


class Box(NamedTuple):
    name: str
    about: str  # how it was made
    digest: str
    x: float
    y: float

    @property
    def short(self) -> str:
        """The name with its middle left out where it is long: both ends tell sets apart."""
        half = LETTERS // 2
        return self.name if len(self.name) <= LETTERS else f"{self.name[: half - 1]}…{self.name[-half:]}"


class Graph(NamedTuple):
    width: int
    height: int
    boxes: tuple[Box, ...]
    lines: tuple[str, ...]  # SVG paths


def graph(report: Report) -> Graph | None:
    """Boxes in columns by their longest way from a source; None where there are too many, or nothing to connect."""
    made_from = {row["name"]: [p for p in row["parents"] if p != row["name"]] for row in report["provenance"]}
    rows = {row["name"]: row for row in report["provenance"]}
    if not 2 <= len(rows) <= MOST or not any(made_from.values()):
        return None
    columns = _columns(made_from)
    order = [[name for name in rows if columns[name] == column] for column in range(max(columns.values()) + 1)]
    most = max(map(len, order))
    height: dict[str, float] = {}
    for names in order:
        names.sort(key=lambda name: _mean([height[p] for p in made_from[name] if p in height]))
        height |= {name: DOWN * (place + (most - len(names)) / 2) for place, name in enumerate(names)}
    boxes = {
        name: Box(name, f"{row['stage']} {row['method']}".strip(), row["digest"], ACROSS * columns[name], height[name])
        for name, row in rows.items()
    }
    lines = [_line(boxes[p], boxes[name]) for name in made_from for p in _nearest(name, made_from)]
    width = ACROSS * (len(order) - 1) + WIDTH
    return Graph(width, DOWN * (most - 1) + HEIGHT, tuple(boxes.values()), tuple(lines))


def _nearest(name: str, made_from: Mapping[str, Sequence[str]]) -> list[str]:
    """The parents of a name that are behind none of its other parents: what is drawn."""
    parents = [p for p in made_from[name] if p in made_from]
    return [p for p in parents if not any(p in _behind(other, made_from) for other in parents if other != p)]


def _behind(name: str, made_from: Mapping[str, Sequence[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(made_from[name])
    while waiting:
        parent = waiting.pop()
        if parent in made_from and parent not in found:
            found.add(parent)
            waiting += made_from[parent]
    return found


def _columns(made_from: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Of each name, the longest chain of parents behind it."""
    found: dict[str, int] = {}

    def depth(name: str, behind: tuple[str, ...] = ()) -> int:
        if name not in found:
            parents = [p for p in made_from[name] if p in made_from and p not in behind]
            found[name] = max((1 + depth(p, (*behind, name)) for p in parents), default=0)
        return found[name]

    return {name: depth(name) for name in made_from}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _line(start: Box, end: Box) -> str:
    left, right = start.x + WIDTH, end.x
    middle = (left + right) / 2
    y0, y1 = start.y + HEIGHT / 2, end.y + HEIGHT / 2
    return f"M{left:g} {y0:g}C{middle:g} {y0:g} {middle:g} {y1:g} {right:g} {y1:g}"
