"""Accuracies beside published ones, from report.json alone: a table, and one line for the terminal."""

from collections.abc import Mapping
from typing import Any

from ue_audit.rendering.figures import count, percent, points
from ue_audit.rendering.table import Report, Table

Found = Mapping[str, Any]
KEY, CAPTION = "published", "Beside published figures"
HEADERS = ("Trained on", "Accuracy here, %", "Published, %", "Difference", "Where", "What differs")
PROSE = frozenset({4, 5})
NAMED = 3  # training sets named in a line, before the rest is counted
NOTE = (
    "Only where data set, protection, countermeasure and learner are the same, with the published settings. Published "
    "figures are no truth: for the same pair, sources differ by 5 to 20 points."
)


def published(report: Report) -> Table:
    """The comparable figures, or only why there are none."""
    found = report["published"]
    apart = [_apart(group) for group in found["not_comparable"]]
    if not found["figures"]:
        return Table(KEY, CAPTION, ("Trained on", "Not comparable, because"), apart, figures=False)
    rest = [f"Not comparable: {who}, because {why}." for who, why in apart]
    rows = [_row(figure, found) for figure in found["figures"]]
    return Table(KEY, CAPTION, HEADERS, rows, note=" ".join([NOTE, *rest]), prose=PROSE)


def line(found: Found) -> str:
    """The same in one line."""
    if found["figures"]:
        first = max(found["figures"], key=lambda figure: abs(figure["difference"]))
        both = f"{percent(first['accuracy'])} here, {percent(first['published'])} in {first['source']}"
        return f"{count(len(found['figures']))} comparable; farthest apart: {_name(first, found)}, {both}"
    apart = found["not_comparable"]
    return f"not comparable, because {_why(apart[0])}" if apart else "nothing to compare"


def _row(figure: Mapping[str, Any], found: Found) -> tuple[str, ...]:
    spread = f" ± {percent(figure['spread'])}" if figure["spread"] is not None else ""
    runs = f" (n = {figure['runs']})" if figure["runs"] is not None else ""
    return (
        _name(figure, found),
        percent(figure["accuracy"]),
        f"{percent(figure['published'])}{spread}{runs}",
        points(figure["difference"]),
        f"{figure['source']}, {figure['place']}; {figure['evidence']}",
        "; ".join(figure["differs"]) or "nothing known",
    )


def _name(figure: Mapping[str, Any], found: Found) -> str:
    several = len({other["learner"] for other in found["figures"]}) > 1
    learner = f", {figure['learner']}" if several else ""
    best = " (best epoch)" if figure["reading"] == "peak" else ""
    return f"{figure['folder']}{learner}{best}"


def _apart(group: Mapping[str, Any]) -> tuple[str, str]:
    cells = group["cells"]
    named = ", ".join(cells[:NAMED]) + (f" and {count(len(cells) - NAMED)} more" if len(cells) > NAMED else "")
    return named, _why(group)


def _why(group: Mapping[str, Any]) -> str:
    return "; ".join(group["because"])
