"""Recovery against time in report.html, one chart per protected set: positions in percent, from report.json alone.

Time is on a logarithmic axis. The shape of a mark says what the attacker needs, a filled mark is on the frontier, and
the step line is the most that anybody recovers within a time, so that nothing hangs on colour.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ue_audit.rendering.attackers import attacker_name
from ue_audit.rendering.charts import LABEL_STEP, tone
from ue_audit.rendering.figures import duration, ratio

Attacker = Mapping[str, Any]
TICKS = (
    (0.1, "≤ 0.1 s"), (1, "1 s"), (10, "10 s"), (60, "1 min"), (600, "10 min"), (3600, "1 h"), (36_000, "10 h"),
    (360_000, "100 h"), (3_600_000, "1,000 h"),
)  # fmt: skip
SHAPES = {
    "circle": "M-5,0a5,5,0,1,0,10,0a5,5,0,1,0,-10,0z",
    "square": "M-4.5,-4.5h9v9h-9z",
    "diamond": "M0,-6.5L6.5,0L0,6.5L-6.5,0z",
}
LEVELS = (0.0, 0.25, 0.5, 0.75, 1.0)
MARGIN = 0.06  # of recovery, above and below what is drawn
LETTER = 1.9  # percent of the chart's width, on a small screen
LABELS = 12  # at most; those on the frontier come first
LONGEST = 26  # letters of a label
MARK = 2.0  # percent that a mark takes to each side


Step = tuple[float, float, float, float]  # x1, y1, x2, y2


class Point(NamedTuple):
    """An attacker: where its mark, whisker and label stand; `side` is the label's text-anchor."""

    label: str
    tone: str
    path: str
    filled: bool
    x: float
    y: float
    low: float | None
    high: float | None
    side: str
    label_x: float
    label_y: float


class Chart(NamedTuple):
    name: str
    title: str
    desc: str
    points: tuple[Point, ...]
    steps: tuple[Step, ...]
    ticks: tuple[tuple[float, str], ...]
    levels: tuple[tuple[float, str], ...]


class Frame(NamedTuple):
    """The ends of both axes: seconds, and recovery."""

    left: float
    right: float
    bottom: float
    top: float

    def across(self, seconds: float) -> float:
        share = math.log(max(seconds, self.left) / self.left) / math.log(self.right / self.left)
        return round(100 * min(1.0, share), 2)

    def down(self, recovery: float) -> float:
        share = (self.top - recovery) / (self.top - self.bottom)
        return round(100 * min(1.0, max(0.0, share)), 2)


def charts(report: Mapping[str, Any]) -> list[Chart]:
    """One per price list with an attacker whose time and recovery were measured; that of the verdict first."""
    chosen = report["verdict"]["chosen"]
    head = chosen and chosen["folder"]
    lists = sorted(
        report["prices"], key=lambda one: all(a["folder"] != head or not a["chosen"] for a in one["attackers"])
    )
    return [_chart(report, one, found) for one in lists if (found := _drawn(one["attackers"]))]


def _drawn(attackers: Sequence[Attacker]) -> list[Attacker]:
    return [a for a in attackers if a["recovery"] is not None and a["seconds"]["extra"] is not None]


def _chart(report: Mapping[str, Any], one: Mapping[str, Any], found: Sequence[Attacker]) -> Chart:
    frame = _frame(found)
    points = [_point(report, one, attacker, frame) for attacker in found]
    name = ", ".join([one["protected"], *([one["victim"]] if len({p["victim"] for p in report["prices"]}) > 1 else [])])
    listed = "; ".join(
        f"{p.label}: {ratio(a['recovery']['value'])} in {duration(a['seconds']['extra'])}"
        for p, a in zip(points, found, strict=True)
    )
    steps = _steps([a for a in found if a["counts"]], frame)
    return Chart(
        name=name,
        title=f"Recovery against time, {name}",
        desc=f"{listed}. All figures are in the table below.",
        points=_labelled(points, steps),
        steps=steps,
        ticks=tuple((frame.across(t), text) for t, text in TICKS if frame.left <= t <= frame.right),
        levels=tuple((frame.down(level), f"{100 * level:.0f}") for level in LEVELS),
    )


def _frame(found: Sequence[Attacker]) -> Frame:
    seconds = [a["seconds"]["extra"] for a in found]
    bounds = [v for a in found for v in a["recovery"].values() if v is not None]
    places = [t for t, _ in TICKS]
    first = max((i for i, t in enumerate(places) if t <= min(seconds)), default=0)
    last = min((i for i, t in enumerate(places) if t >= max(seconds)), default=len(places) - 1)
    first = min(first, len(places) - 2)
    return Frame(
        left=places[first],
        right=places[max(last, first + 1)],
        bottom=max(-0.5, min(0.0, *bounds)) - MARGIN,
        top=min(1.5, max(1.0, *bounds)) + MARGIN,
    )


def _point(report: Mapping[str, Any], one: Mapping[str, Any], attacker: Attacker, frame: Frame) -> Point:
    own, bought = attacker["own_images"] != 0, attacker["raw_images"] != 0 or attacker["weights"] != []
    shape = "diamond" if own else "square" if bought else "circle"
    low, high = (
        None if attacker["recovery"][end] is None else frame.down(attacker["recovery"][end]) for end in ("low", "high")
    )
    x, y = frame.across(attacker["seconds"]["extra"]), frame.down(attacker["recovery"]["value"])
    name = attacker_name(one, attacker)
    short = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
    cell = {"role": "purified", "countermeasure": attacker["countermeasure"]}
    return Point(short, tone(report, cell), SHAPES[shape], bool(attacker["frontier"]), x, y, low, high, "start", x, y)


def _steps(found: Sequence[Attacker], frame: Frame) -> tuple[Step, ...]:
    """The most that is recovered within a time, as lines from corner to corner, on to the right end."""
    lines: list[Step] = []
    at: tuple[float, float] | None = None
    for attacker in sorted(found, key=lambda a: (a["seconds"]["extra"], -a["recovery"]["value"])):
        x, y = frame.across(attacker["seconds"]["extra"]), frame.down(attacker["recovery"]["value"])
        if at is not None and y < at[1]:
            lines += [(at[0], at[1], x, at[1]), (x, at[1], x, y)]
        if at is None or y < at[1]:
            at = (x, y)
    return (*lines, (at[0], at[1], 100.0, at[1])) if at is not None else ()


def _labelled(points: Sequence[Point], steps: Sequence[Step]) -> tuple[Point, ...]:
    """Labels beside their marks, where there is most room; one that would cover something moves up or down, and one
    that finds no room is left out. Those on the frontier choose first."""
    boxes = [(p.x - MARK, p.x + MARK, p.y) for p in points]
    boxes += [(x1, x2, y1) for x1, y1, x2, y2 in steps if y1 == y2]
    placed = []
    for number, point in enumerate(sorted(points, key=lambda p: (not p.filled, p.y, p.x))):
        left = point.x > 55
        width = LETTER * len(point.label)
        span = (point.x - MARK - width, point.x - MARK) if left else (point.x + MARK, point.x + MARK + width)
        shifts = (k * LABEL_STEP / 2 * sign for k in range(40) for sign in (1, -1))
        places = (point.y + shift for shift in shifts if 1 <= point.y + shift <= 99)
        y = next((y for y in places if not _covers(boxes, *span, y)), None) if number < LABELS else None
        if y is None:
            placed.append(point._replace(label=""))
            continue
        boxes.append((*span, y))
        placed.append(
            point._replace(side="end" if left else "start", label_x=round(span[left], 2), label_y=round(y, 2))
        )
    return tuple(placed)


def _covers(boxes: Sequence[tuple[float, float, float]], left: float, right: float, y: float) -> bool:
    return any(left < end and start < right and abs(y - at) < LABEL_STEP * 0.9 for start, end, at in boxes)
