"""What the tables of a report share: their form, and how a cell, a learner and an estimate are written."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ue_audit.names import NOISE
from ue_audit.rendering.figures import ABSENT, interval

Report = Mapping[str, Any]


class Table(NamedTuple):
    """`rows` of text under `headers`; the first column names the row, the others hold figures if `figures`."""

    key: str
    caption: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    figures: bool = True
    note: str = ""
    marked: frozenset[int] = frozenset()  # rows that stand out
    lead: Sequence[str] = ()  # sentences above the rows
    prose: frozenset[int] = frozenset()  # columns that hold words where the others hold figures


def label(report: Report, cell: Mapping[str, Any]) -> str:
    """What a cell was trained on, for people; by its folder's name where the report has several protected sets."""
    if cell["learner_kind"] == "reference":
        return "the attacker's own images alone"
    countermeasure, folder = cell["countermeasure"] or "countermeasure", str(cell["folder"])
    several = len({audit["protected"] for audit in report["audits"]}) > 1
    alone = "protected" if cell["learner_kind"] == "countermeasure" else "protected, no countermeasure"
    purified = folder if cell["countermeasure"] else f"{folder} + {countermeasure}"
    return {
        "clean": "clean images",
        "noise": f"clean + noise as in {folder.removesuffix(NOISE)}" if several else "clean + noise of the same norm",
        "protected": folder if several else alone,
        "purified": purified if several else f"protected + {countermeasure}",
        "ceiling": f"clean + {countermeasure} (ceiling)",
    }[cell["role"]]


def learner_suffix(report: Report, learner: str) -> str:
    """The learner's name where the report has several."""
    return f", {learner}" if len(report["setup"]["learners"]) > 1 else ""


def estimate(
    value: Mapping[str, float | None] | None, write: Callable[[float | None], str], otherwise: str = ABSENT
) -> str:
    if value is None:
        return otherwise
    return f"{write(value['value'])} {interval(value, write)}".rstrip()
