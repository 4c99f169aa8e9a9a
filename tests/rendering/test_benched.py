"""The bench's tables: what was measured, what was not, and nothing that acts."""

import io
from typing import Any

from rich.console import Console

from ue_audit.benches.rows import Goal, Part, Row
from ue_audit.rendering import benched

MACHINE: dict[str, Any] = {
    "date": "2026-11-23", "device": "cpu", "cpu": "A [/nope] chip", "cores": 2, "threads": 2, "memory": 24 * 10**9,
    "load": 3.0, "busy": True, "bf16": False, "process_memory": 200_000_000,
    "versions": {"ue-audit": "0.1.0", "python": "3.11", "torch": "2.14"},
}  # fmt: skip


def document(*rows: Row, goals: tuple[Goal, ...] = (), quick: bool = False) -> dict[str, Any]:
    part = Part(list(rows), list(goals), ["a | note"]).document("training", "Training")
    return {"machine": MACHINE, "settings": {"quick": quick}, "parts": [part]}


def shown(found: dict[str, Any]) -> str:
    screen = Console(file=io.StringIO(), width=200, highlight=False, emoji=False)
    for part in benched.tables(found):
        screen.print(part)
    return screen.file.getvalue()  # type: ignore[attr-defined]


PLAIN = Row("plain", 100, 2.0, (1.5, 3.0), 3)
OURS = Row("ours [red]x", 100, 0.5, (0.4, 0.6), 3, 750_000_000, "plain", 4.0, (3.0, 5.0), {"dB": 28.04, "steps": 1200})


def test_a_terminal_shows_rates_spreads_ratios_and_goals() -> None:
    text = shown(document(PLAIN, OURS, goals=(Goal("times", 2.0, 4.0), Goal("points", 1.0, None))))
    line = next(line for line in text.splitlines() if line.startswith("ours"))
    assert line.split("  ")[0] == "ours [red]x"
    for cell in ("200", "0.500 (0.400 to 0.600)", "750 MB", "4.00 (3.00 to 5.00)", "plain", "28.0", "1,200"):
        assert cell in line
    assert "met: times, at least 2.00, found 4.00" in text
    assert "not measured: points" in text and "A [/nope] chip" in text and "The machine was busy" in text


def test_columns_that_nothing_fills_are_left_out() -> None:
    found = document(PLAIN)["parts"][0]
    assert benched.headings(found) == ["what", "images/s", "seconds", "n"]
    found = document(PLAIN, Row("not run"))["parts"][0]
    assert benched.cells(found["rows"][1], found) == ["not run", "not measured", "not measured", "0"]


def test_markdown_has_one_row_a_contender_and_quotes_what_opens() -> None:
    page = benched.markdown_page(document(PLAIN, OURS, quick=True))
    table = [line for line in page.splitlines() if line.startswith("|")]
    assert len(table) == 4 and len({line.count("|") for line in table}) == 1
    assert "[red]" not in page and "a | note" not in page and "- a &#124; note" in page
    assert "its figures say nothing" in page


def test_a_part_that_found_nothing_still_speaks() -> None:
    assert "Training\n  a | note" in shown(document())
    assert "## Training\n\n- a &#124; note" in benched.markdown_page(document())
