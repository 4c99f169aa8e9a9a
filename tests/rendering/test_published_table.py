"""Comparable figures in the forms of a report: the same numbers, and hostile names inert."""

from typing import Any

import pytest
from test_forms import markdown_text, numbers, page_text, terminal_text

from ue_audit.rendering import published, tables

FIGURE = {
    "role": "protected", "folder": "data.emn", "countermeasure": None, "learner": "supervised", "reading": "last",
    "accuracy": 0.268, "published": 0.2105, "spread": 0.0031, "runs": 5, "difference": 0.0575,
    "source": "ISS (arXiv 2301.13838)", "place": "README", "evidence": "leaderboard", "differs": ["one run"],
}  # fmt: skip


def compared(content: dict[str, Any], **more: Any) -> dict[str, Any]:
    apart = [{"cells": ["data.ops"], "because": ["4 x 500 images instead of 50,000"]}]
    return content | {"published": {"dataset": "CIFAR-10", "figures": [FIGURE | more], "not_comparable": apart}}


def test_every_form_shows_the_same_figures(content: dict[str, Any]) -> None:
    found = compared(content)
    [row] = tables.published(found).rows
    assert row[1:4] == ("26.8", "21.1 ± 0.3 (n = 5)", "5.8")
    for text in (page_text(found), markdown_text(found)):
        assert all(cell in text for cell in row)
        assert "Not comparable: data.ops, because 4 x 500 images instead of 50,000." in text
    assert {"26.8", "21.1"} <= numbers(terminal_text(found))


@pytest.mark.parametrize("name", ["<b>x</b>", "[bold]x[/bold]", "`x` | y"])
def test_names_are_shown_and_not_obeyed(name: str, content: dict[str, Any]) -> None:
    found = compared(content, folder=name)
    assert published.published(found).rows[0][0] == name
    assert name in page_text(found) and name in markdown_text(found) and name in terminal_text(found)
