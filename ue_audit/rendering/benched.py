"""What `ue-audit bench` says, as tables for a terminal and as Markdown, from its document alone."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from ue_audit.rendering.figures import ABSENT, decimal
from ue_audit.rendering.terminal import size
from ue_audit.rendering.text import markdown, safe

Document = Mapping[str, Any]
MARKS = {True: "met", False: "not met", None: "not measured"}


def tables(document: Document) -> list[RenderableType]:
    """The machine, one table for each part, and what was to be reached."""
    shown: list[RenderableType] = [safe(line) for line in machine_lines(document)]
    for part in document["parts"]:
        table = Table(title=safe(part["title"]), title_justify="left", title_style="bold", box=None, pad_edge=False)
        heads = headings(part)
        for number, head in enumerate(heads):
            table.add_column(safe(head), justify="right" if number else "left", overflow="fold")
        for row in part["rows"]:
            table.add_row(*(safe(cell) for cell in cells(row, part)))
        shown += ["", *([table] if part["rows"] else [f"[bold]{safe(part['title'])}[/]"])]
        shown += [f"  {safe(line)}" for line in [*part["notes"], *goal_lines(part)]]
    return shown


def markdown_page(document: Document, plots: Mapping[str, str] | None = None) -> str:
    """The same for a README; `plots` are files beside it, by the part they show."""
    blocks = ["\n".join(f"{markdown(line)}  " for line in machine_lines(document))]
    for part in document["parts"]:
        blocks.append(f"## {markdown(part['title'])}")
        if part["rows"]:
            lines = [headings(part), ["---", *["---:"] * (len(headings(part)) - 1)]]
            rows = [[markdown(cell) for cell in cells(row, part)] for row in part["rows"]]
            head = [[markdown(cell) for cell in lines[0]], lines[1]]
            blocks.append("\n".join(f"| {' | '.join(line)} |" for line in [*head, *rows]))
        if part["part"] in (plots or {}):
            blocks.append(f"![{markdown(part['title'])}]({(plots or {})[part['part']]})")
        blocks += ["\n".join(f"- {markdown(line)}" for line in [*part["notes"], *goal_lines(part)])]
    return "\n\n".join(block for block in blocks if block) + "\n"


def machine_lines(document: Document) -> list[str]:
    """Hardware, versions and date; and a warning where other work was going on."""
    found = document["machine"]
    versions = found["versions"]
    memory = f", {size(found['memory'])}" if found["memory"] else ""
    settings = document["settings"]
    lines = [
        f"{found['date']}, device {found['device']}: {found['cpu']}, {found['cores']} cores, "
        f"{found['threads']} threads{memory}; {'bf16' if found['bf16'] else 'float32'}",
        f"ue-audit {versions['ue-audit']}, python {versions['python']}, torch {versions['torch']}; "
        f"a process that has loaded torch holds {_bytes(found['process_memory'])}",
    ]
    if settings["quick"]:
        lines.append("--quick: a trial of the bench itself; its figures say nothing.")
    if found["busy"]:
        lines.append(
            f"The machine was busy when this began (load {found['load']:.1f}): trust neither times nor ratios, since "
            "threads wait for each other (OMP_NUM_THREADS=1 suffers least)."
        )
    return lines


def headings(part: Mapping[str, Any]) -> list[str]:
    """The columns that this part has anything in."""
    return [head for head, _ in _columns(part)]


def cells(row: Mapping[str, Any], part: Mapping[str, Any]) -> list[str]:
    return [write(row) for _, write in _columns(part)]


def goal_lines(part: Mapping[str, Any]) -> list[str]:
    return [
        f"{MARKS[goal['met']]}: {goal['what']}, {'at least' if goal['at_least'] else 'at most'} "
        f"{_number(goal['wanted'])}, found {_number(goal['found'])}"
        for goal in part["goals"]
    ]


def _columns(part: Mapping[str, Any]) -> list[tuple[str, Any]]:
    rows: Sequence[Mapping[str, Any]] = part["rows"]
    figures = list(dict.fromkeys(name for row in rows for name in row["figures"]))
    common: list[tuple[str, str, Any]] = [
        ("images/s", "images_per_second", lambda row: _number(row["images_per_second"])),
        ("seconds", "seconds", _seconds),
        ("n", "n", lambda row: str(row["n"])),
        ("peak memory", "peak_memory", lambda row: _bytes(row["peak_memory"])),
        ("times faster", "ratio", _ratio),
        ("than", "baseline", lambda row: row["baseline"] or ""),
    ]
    used = [(head, write) for head, key, write in common if any(row[key] is not None for row in rows)]
    return [("what", lambda row: row["what"]), *used, *((name, _figure(name)) for name in figures)]


def _figure(name: str) -> Any:
    return lambda row: _number(row["figures"].get(name), absent="")


def _seconds(row: Mapping[str, Any]) -> str:
    if row["seconds"] is None:
        return ABSENT
    low, high = row["spread"] or (None, None)
    spread = f" ({_number(low)} to {_number(high)})" if row["n"] > 1 and low is not None else ""
    return f"{_number(row['seconds'])}{spread}"


def _ratio(row: Mapping[str, Any]) -> str:
    if row["ratio"] is None:
        return ABSENT if row["baseline"] else ""
    low, high = row["ratio_spread"] or (None, None)
    spread = f" ({_number(low)} to {_number(high)})" if row["n"] > 1 and low is not None else ""
    return f"{_number(row['ratio'])}{spread}"


def _bytes(value: int | None) -> str:
    return ABSENT if value is None else size(value)


def _number(value: float | None, absent: str = ABSENT) -> str:
    """Three digits, and whole numbers from 100 on."""
    if value is None:
        return absent
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return decimal(value, 1 if abs(value) >= 10 else 2 if abs(value) >= 1 else 3)
