"""The verdict for the terminal, as a rich renderable, from report.json alone."""

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Group, JustifyMethod, RenderableType
from rich.panel import Panel
from rich.table import Table as Grid
from rich.text import Text

from ue_audit.rendering import published, tables
from ue_audit.rendering.attackers import FRONTIER
from ue_audit.rendering.figures import interval, points, remaining, survival
from ue_audit.rendering.table import Table
from ue_audit.rendering.text import plain

STYLES = {"A": "green", "B": "green", "C": "yellow", "D": "red", "F": "red", None: "yellow"}
MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red"), "unknown": ("?", "yellow")}
PRICES = (0, 1, 5, 6)  # columns of the price list
FEW = 2  # sets, up to which every training set has a row; of more the matrix is shown
LONG = ("accuracies", "countermeasures")  # tables with a row for every training set, or every attack
SHOWN = {"accuracies": (0, 1, 2), "countermeasures": (0, 1, 2, 7), "audits": (0, 1, 3, 4)}


def report_panel(report: Mapping[str, Any]) -> RenderableType:
    """Sentence, grade, interval, what is not sound, and the two tables that matter. No markup is parsed anywhere."""
    verdict = report["verdict"]
    parts: list[RenderableType] = [Text(plain(verdict["sentence"]), "bold"), Text(), _figures(verdict), Text()]
    if verdict.get("plain"):  # reports of older versions have none
        parts += [Text(plain(" ".join(verdict["plain"]))), Text()]
    parts += [_check(c) for c in report["checks"] if c["state"] != "ok"]
    sound = sum(c["state"] == "ok" for c in report["checks"])
    parts += [Text(f"✓ {sound} of {len(report['checks'])} honesty checks hold", "green")]
    parts += [Text(f"published figures: {plain(published.line(report['published']))}"), Text()]
    found = tables.all_tables(report)
    if "prices" in found:
        parts += _prices(found["prices"])
    many = len(report["audits"]) > FEW and "matrix" in found
    if many:
        heading = Text.assemble((found["matrix"].caption, "bold"), ": accuracy in %, and the recovery")
        parts += [heading, _table(_turned(found["matrix"]), None), Text()]
    for key in (key for key in SHOWN if key in found and not (many and key in LONG)):
        parts += [_table(found[key], SHOWN[key]), Text()]
    title = Text(f"audit of {plain(report['title'])}")
    return Panel(Group(*parts[:-1]), title=title, title_align="left", expand=False, box=box.ROUNDED)


def _turned(matrix: Table) -> Table:
    """Attackers down and sets across, which fits a terminal."""
    attackers, sets = matrix.headers[1:], [row[0] for row in matrix.rows]
    rows = [(name, *(row[1 + at] for row in matrix.rows)) for at, name in enumerate(attackers)]
    return matrix._replace(headers=("Attacker", *sets), rows=rows)


def _figures(verdict: Mapping[str, Any]) -> Text:
    style = STYLES[verdict["grade"]]
    left, taken = verdict["survival"], verdict["effect"]
    grade = f"grade {verdict['grade']}" if verdict["grade"] else f"no grade: {'; '.join(verdict['no_grade'])}"
    kept = f"survival {survival(verdict)} {interval(left, remaining)}".rstrip()
    effect = f"effect {points(taken and taken['value'])} points {interval(taken, points)}".rstrip()
    text = Text.assemble((plain(grade), f"bold {style}"), "   ", kept, "   ", effect)
    if verdict["cheapest"]:
        text.append(f"\ncheapest attack that undoes half: {plain(verdict['cheapest'])}")
    return text


def _check(found: Mapping[str, str]) -> Text:
    mark, style = MARKS[found["state"]]
    return Text.assemble((f"{mark} {plain(found['name'])}", style), f": {plain(found['text'])}")


def _prices(found: Table) -> list[RenderableType]:
    """The sentences an owner reads off, and the attackers on the frontier."""
    rows = [found.rows[number] for number in sorted(found.marked)]
    short = found._replace(rows=[(row[0].removesuffix(FRONTIER), *row[1:]) for row in rows], marked=frozenset())
    parts: list[RenderableType] = [Text(found.caption, "bold"), *(Text(plain(text)) for text in found.lead), Text()]
    return [*parts, _table(short, PRICES), Text()] if rows else parts


def _table(found: Table, columns: tuple[int, ...] | None) -> Grid:
    """These columns of a table, or all."""
    shown = Grid(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    columns = tuple(range(len(found.headers))) if columns is None else columns
    for column in columns:
        side: JustifyMethod = "left" if not column or column in found.prose else "right"
        shown.add_column(Text(found.headers[column]), justify=side, overflow="fold")
    for number, row in enumerate(found.rows):
        style = "bold" if number in found.marked else ""
        shown.add_row(*(Text(plain(row[column])) for column in columns), style=style)
    return shown
