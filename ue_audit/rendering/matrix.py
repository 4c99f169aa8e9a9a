"""Every protected set against every countermeasure in one table: what the verdict is chosen from."""

from collections.abc import Iterable, Mapping
from typing import Any

from ue_audit.rendering.figures import ABSENT, percent, ratio
from ue_audit.rendering.table import Report, Table

NONE = "none"
CEILING = "clean images (ceiling)"
SHADES = 9  # of the heat behind a cell, one for each tenth of recovery above the first

Found = Mapping[tuple[str, str], Mapping[str, Any]]


def matrix(report: Report) -> Table:
    """Accuracy, and recovery in brackets; where there are at least two sets and two countermeasures."""
    rows, columns, found = _grid(report)
    several = len({victim for _, victim in rows}) > 1
    shown = [
        (
            protected + (f", {victim}" if several else ""),
            percent(_alone(report, protected, victim)),
            *(_cell(found.get((column, f"{protected}/{victim}"))) for column in columns),
        )
        for protected, victim in rows
    ]
    shown.append((CEILING, _clean(report), *(_ceiling(report, column) for column in columns)))
    note = (
        "Accuracy in %, and in brackets the recovery: the share of the lost accuracy that is given back. The verdict "
        "on a set goes by the attacker that does best there on validation images, so a column that is missing can make "
        "it wrong."
    )
    worth = len(rows) > 1 and len(columns) > 1
    headers = ("Protected set", NONE, *columns)
    return Table("matrix", "Every set against every attacker", headers, shown if worth else [], note=note)


def heat(report: Report) -> dict[tuple[int, int], int]:
    """(row, column) of the table -> a shade from 0 to SHADES by its recovery; cells without one are left out."""
    rows, columns, found = _grid(report)
    shades = {}
    for at, (protected, victim) in enumerate(rows):
        for place, column in enumerate(columns, 2):
            attack = found.get((column, f"{protected}/{victim}"))
            if attack is not None and attack["recovery"] is not None:
                shades[at, place] = round(SHADES * min(1.0, max(0.0, attack["recovery"]["value"])))
    return shades


def _grid(report: Report) -> tuple[list[tuple[str, str]], list[str], Found]:
    """Sets with their victims in the order of the audits, countermeasures by the most that they give back anywhere, and
    of each pair the attack that reaches most, where one ran several times."""
    rows = [(audit["protected"], audit["learner"]) for audit in report["audits"]]
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for attack in report["countermeasures"]:
        key = (str(attack["countermeasure"]), f"{attack['protected']}/{attack['victim']}")
        if key not in found or attack["accuracy"] > found[key]["accuracy"]:
            found[key] = attack
    most: dict[str, float] = {}
    for (name, _), attack in found.items():
        gives = attack["recovery"]["value"] if attack["recovery"] is not None else float("-inf")
        most[name] = max(most.get(name, float("-inf")), gives)
    return rows, sorted(most, key=lambda name: (-most[name], name)), found


def _cell(attack: Mapping[str, Any] | None) -> str:
    if attack is None:
        return ABSENT
    gives = f" ({ratio(attack['recovery']['value'])})" if attack["recovery"] is not None else ""
    return percent(attack["accuracy"]) + gives


def _alone(report: Report, protected: str, victim: str) -> float | None:
    return next(
        (
            cell["accuracy"]["value"]
            for cell in report["cells"]
            if (cell["role"], cell["folder"], cell["learner"]) == ("protected", protected, victim) and cell["accuracy"]
        ),
        None,
    )


def _clean(report: Report) -> str:
    """Without any countermeasure: that of the victim, or of all victims."""
    victims = {audit["learner"] for audit in report["audits"]}
    return _span(
        cell["accuracy"]["value"]
        for cell in report["cells"]
        if cell["role"] == "clean" and cell["learner"] in victims and cell["accuracy"]
    )


def _ceiling(report: Report, countermeasure: str) -> str:
    """That of the countermeasure, or those of several victims or settings."""
    attacks = [a for a in report["countermeasures"] if str(a["countermeasure"]) == countermeasure]
    return _span(a["ceiling"] for a in attacks if a["ceiling"] is not None)


def _span(values: Iterable[float]) -> str:
    """From the lowest to the highest."""
    found = sorted(set(values))
    if not found:
        return ABSENT
    return percent(found[0]) if len(found) == 1 else f"{percent(found[0])} to {percent(found[-1])}"
