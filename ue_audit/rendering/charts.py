"""Where marks go in the charts of report.html: plain positions in percent, from report.json alone.

Lines are drawn in a box of 100 x 100 that stretches with the page; text stays outside of it, so that it is readable
at any width.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ue_audit.rendering.table import label

Report = Mapping[str, Any]
HUES = 4  # colours for countermeasures
LABEL_STEP = 6.5  # percent of the chart's height that a label needs


class Strip(NamedTuple):
    """A dot with its interval and the single seeds, on a line from 0 to 100; `tone` is a CSS class."""

    tone: str
    value: float
    low: float | None
    high: float | None
    ticks: tuple[float, ...] = ()


class Line(NamedTuple):
    """A learning curve: SVG points of the mean, of the band over seeds, and where its label stands."""

    label: str
    tone: str
    dashed: bool
    points: str
    band: str
    label_top: float


class Chart(NamedTuple):
    learner: str
    epochs: int
    lines: tuple[Line, ...]


def tones(report: Report) -> dict[tuple[str, str | None], str]:
    """A colour for every role and countermeasure: the same in all charts, a ceiling like its countermeasure."""
    names = sorted({str(c["countermeasure"]) for c in report["cells"] if c["role"] in ("purified", "ceiling")})
    found: dict[tuple[str, str | None], str] = {(role, None): f"t-{role}" for role in ("clean", "noise", "protected")}
    for number, name in enumerate(names):
        found |= {(role, name): f"t-p{number % HUES}" for role in ("purified", "ceiling")}
    return found


def tone(report: Report, cell: Mapping[str, Any]) -> str:
    name = str(cell["countermeasure"]) if cell["role"] in ("purified", "ceiling") else None
    return tones(report).get((cell["role"], name), "t-noise")


def accuracy_strips(report: Report) -> list[Strip | None]:
    """One per cell; None where it was not measured."""
    return [
        _strip(tone(report, cell), cell["accuracy"], tuple(_place(a) for a in cell["accuracies"]))
        for cell in report["cells"]
    ]


def survival_strips(report: Report) -> list[Strip | None]:
    return [
        _strip(tone(report, {"role": "purified", **attack}), attack["survival"]) for attack in report["countermeasures"]
    ]


def survival_scale(report: Report) -> Strip | None:
    return _strip("t-ink", report["verdict"]["survival"])


def _strip(css: str, found: Mapping[str, float | None] | None, ticks: tuple[float, ...] = ()) -> Strip | None:
    if found is None or found["value"] is None:
        return None
    low, high = (None if found[end] is None else _place(float(found[end] or 0)) for end in ("low", "high"))
    return Strip(css, _place(found["value"]), low, high, ticks)


def _place(share: float) -> float:
    """A share as percent of the width, held within the box."""
    return round(100 * min(1.0, max(0.0, share)), 2)


def curves(report: Report) -> list[Chart]:
    """One chart per learner, its labels kept apart."""
    charts = []
    for learner in report["setup"]["learners"]:
        found = [curve for curve in report["curves"] if curve["learner"] == learner["name"] and curve["points"]]
        if found:
            last = max(curve["points"][-1]["epoch"] for curve in found)
            lines = [_line(report, curve, last) for curve in found]
            charts.append(Chart(learner["name"], last, _apart(lines)))
    return charts


def _line(report: Report, curve: Mapping[str, Any], last: int) -> Line:
    points = curve["points"]
    across = [round(100 * (p["epoch"] - 1) / max(1, last - 1), 2) for p in points]

    def path(key: str) -> list[str]:
        return [f"{x:g},{100 - _place(p[key]):g}" for x, p in zip(across, points, strict=True)]

    return Line(
        label=label(report, curve),
        tone=tone(report, curve),
        dashed=curve["role"] in ("ceiling", "noise"),
        points=" ".join(path("mean")),
        band=" ".join([*path("high"), *reversed(path("low"))]),
        label_top=100 - _place(points[-1]["mean"]),
    )


def _apart(lines: Sequence[Line]) -> tuple[Line, ...]:
    """Labels from top to bottom, each pushed below the one before, then all back into the box from below."""
    order = sorted(lines, key=lambda line: line.label_top)
    tops: list[float] = []
    for line in order:
        tops.append(max(line.label_top, tops[-1] + LABEL_STEP) if tops else line.label_top)
    floor = 100.0
    for number in reversed(range(len(tops))):
        tops[number] = min(tops[number], floor)
        floor = tops[number] - LABEL_STEP
    return tuple(line._replace(label_top=round(top, 2)) for line, top in zip(order, tops, strict=True))
