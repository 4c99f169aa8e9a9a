"""A comparison in the terminal and as Markdown: the same figures, hostile names inert."""

import io
import re
from pathlib import Path
from typing import Any

import hostile
import pytest
import synthetic_evaluation as synthetic
from markdown_it import MarkdownIt
from rich.console import Console
from test_forms import composed, poisoned

from ue_audit import differences
from ue_audit.rendering import compared
from ue_audit.rendering.text import plain


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    def audit(name: str, **means: float) -> dict[str, Any]:
        change = {key: means[key[0]] for key in synthetic.MEANS if key[0] in means}
        place: Path = tmp_path_factory.mktemp(name)
        return composed(place, synthetic.records({**synthetic.MEANS, **change}))

    first, second = audit("a"), audit("b", protected=0.2)
    second["cells"] = [cell for cell in second["cells"] if cell["countermeasure"] != "ddpm"]
    next(row for row in second["provenance"] if row["name"] == "data.emn")["settings"] = {"eps": "4/255"}
    return differences.compare(first, second, ("a.report", "b.eval"))


def terminal(content: dict[str, Any], **console: Any) -> str:
    out = io.StringIO()
    Console(file=out, width=4000, **console).print(compared.panel(content))
    return out.getvalue()


def markdown_text(content: dict[str, Any]) -> str:
    tokens = MarkdownIt("commonmark").enable("table").parse(compared.markdown(content))
    return " ".join("".join(c.content for c in t.children or []) for t in tokens)


def test_both_forms_show_every_row_and_name(found: dict[str, Any]) -> None:
    shown, text = terminal(found), markdown_text(found)
    for table in compared.tables(found):
        for cell in (cell for row in table.rows for cell in row):
            assert cell in shown and cell in text, (table.key, cell)
    for entry in ("eps not recorded → 4/255", "Only in a.report", "emn + ddpm", "The clean images are the same."):
        assert entry in shown and entry in text
    row = found["accuracies"][0]["accuracy"]
    assert f"{100 * row['first']['value']:.1f}" in text
    assert "not measured" not in text and "None" not in text


def test_what_zero_lies_outside_of_stands_out(found: dict[str, Any]) -> None:
    tables = {table.key: table for table in compared.tables(found)}
    rows = [row["name"] for row in found["accuracies"]]
    assert {rows[number] for number in tables["accuracies"].marked} == {"emn"}


@pytest.mark.parametrize("text", hostile.STRINGS)
def test_hostile_names_are_inert(text: str, found: dict[str, Any]) -> None:
    bad = poisoned(found, text)
    tokens = MarkdownIt("commonmark").enable("table").parse(compared.markdown(bad))
    inline = {c.type for t in tokens for c in t.children or []}
    assert inline <= {"text", "text_special", "strong_open", "strong_close", "code_inline", "softbreak"}
    assert "html_block" not in {t.type for t in tokens}
    shown = terminal(bad, force_terminal=True, color_system=None)
    assert plain(text).strip() in shown
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", shown)
