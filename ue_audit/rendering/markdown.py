"""report.md: the report as GitHub Markdown, from report.json alone."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ue_audit.rendering.figures import ABSENT, interval, points, remaining, survival
from ue_audit.rendering.table import Table
from ue_audit.rendering.tables import all_tables
from ue_audit.rendering.text import code, markdown

MARKS = {"ok": "✓ holds", "warn": "! note", "fail": "✗ fails", "unknown": "? open"}


def render(report: Mapping[str, Any], sheet: str | None = None) -> str:
    """The whole report; `sheet` is the name of the image sheet's file beside it."""
    tables = all_tables(report)
    parts = [
        f"# Audit of {markdown(report['title'])}",
        f"**{markdown(report['verdict']['sentence'])}**",
        *_verdict(report["verdict"]),
        *_plain(report["verdict"].get("plain")),
        "## Is this verdict sound?",
        _list(f"**{MARKS[c['state']]}** {markdown(c['name'])}: {markdown(c['text'])}" for c in report["checks"]),
        *(["Warnings of the stages:", _list(markdown(w) for w in report["warnings"])] if report["warnings"] else []),
        *(section(tables[key]) for key in tables if key != "provenance"),
        *_images(report["sheet"], sheet),
        "## What was not tested",
        _list(markdown(text) for text in report["limits"]),
        *_words(report.get("words")),
        *(section(tables[key]) for key in tables if key == "provenance"),
        "## The commands",
        *([_list(code(command) for command in report["commands"])] if report["commands"] else [ABSENT]),
        f"{markdown(report['generator'])}, report format {report['schema']}",
    ]
    return "\n\n".join(parts) + "\n"


def _verdict(verdict: Mapping[str, Any]) -> list[str]:
    rows = [("Grade", verdict["grade"] or f"none: {'; '.join(verdict['no_grade'])}")]
    left, taken = verdict["survival"], verdict["effect"]
    rows.append(("Survival", f"{survival(verdict)} {interval(left, remaining)}".rstrip()))
    rows.append(("Effect, points", f"{points(taken and taken['value'])} {interval(taken, points)}".rstrip()))
    rows += [("Cheapest attack that undoes half", verdict["cheapest"])] if verdict["cheapest"] else []
    return [_table(("", ""), rows)]


def _plain(sentences: Sequence[str] | None) -> list[str]:
    """Absent in reports of older versions."""
    return ["## In plain words", *map(markdown, sentences)] if sentences else []


def _words(words: Sequence[Mapping[str, str]] | None) -> list[str]:
    listed = _list(f"**{markdown(row['word'])}**: {markdown(row['means'])}" for row in words or ())
    return ["## Words", listed] if words else []


def section(table: Table) -> str:
    note = f"\n\n{markdown(table.note)}" if table.note else ""
    lead = _list(markdown(text) for text in table.lead) + "\n\n" if table.lead else ""
    rows = _table(table.headers, table.rows, table.figures, table.prose)
    return f"## {markdown(table.caption)}\n\n{lead}{rows}{note}"


def _table(
    headers: Sequence[str],
    rows: Sequence[Sequence[str]],
    figures: bool = False,
    prose: Collection[int] = (),
) -> str:
    rule = ["---:" if figures and column and column not in prose else "---" for column in range(len(headers))]
    lines = [[markdown(cell) for cell in headers], rule, *([markdown(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _images(found: Mapping[str, Any] | None, sheet: str | None) -> list[str]:
    if found is None or sheet is None:
        return []
    columns = ", ".join(markdown(column) for column in found["columns"])
    return ["## Some of the images", f"![{markdown(found['alt'])}]({sheet})", f"Columns: {columns}."]


def _list(items: Any) -> str:
    return "\n".join(f"- {item}" for item in items)
