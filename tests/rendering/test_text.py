"""Forty hostile strings: nothing acts, nothing hides, and what was written can still be read."""

import io
import unicodedata

import hostile
import pytest
from markdown_it import MarkdownIt
from rich.console import Console
from rich.text import Text

from ue_audit.rendering.text import code, markdown, plain, safe


def commonmark() -> MarkdownIt:
    return MarkdownIt("commonmark").enable("table").enable("strikethrough")


@pytest.mark.parametrize("text", hostile.STRINGS)
def test_plain_has_one_line_without_controls(text: str) -> None:
    shown = plain(text)
    assert not {unicodedata.category(c) for c in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert len(shown.splitlines()) <= 1
    shown.encode("utf-8")


def test_plain_shows_what_it_took_away_and_keeps_the_rest() -> None:
    assert plain("a\x1b[31m\u202eb\n") == "a\\x1b[31m\\u202eb\\n"
    assert plain("Zürich 猫 ∩ × [0.1, 0.2]") == "Zürich 猫 ∩ × [0.1, 0.2]"


@pytest.mark.parametrize("text", hostile.STRINGS)
def test_safe_is_printed_and_not_obeyed(text: str) -> None:
    around = Text.from_markup(f"[bold]{safe(text)}[/] end", emoji=False)
    assert around.plain == f"{plain(text)} end" and len(around.spans) == 1
    out = io.StringIO()
    Console(file=out, force_terminal=True, width=500, emoji=False, highlight=False).print(safe(text))
    printed = out.getvalue().strip()
    assert printed.rstrip("\\") == plain(text).strip().rstrip("\\")  # rich doubles backslashes at the very end


@pytest.mark.parametrize("text", hostile.STRINGS)
@pytest.mark.parametrize("around", ["{}", "- {}", "**{}**", "# {}", "| a | b |\n| --- | --- |\n| {} | 2 |"])
def test_markdown_is_text_and_nothing_else(text: str, around: str) -> None:
    ours = commonmark().parse(around.format("name"))
    tokens = commonmark().parse(around.format(markdown(text)))
    assert [t.type for t in tokens] == [t.type for t in ours]
    inline = [c for t in tokens for c in t.children or []]
    allowed = {"text", "text_special", "strong_open", "strong_close"}
    assert {c.type for c in inline} <= allowed
    assert plain(text).strip() in "".join(c.content for c in inline)
    assert sum(c.type == "strong_open" for c in inline) == (around == "**{}**")


@pytest.mark.parametrize("text", hostile.STRINGS)
def test_code_is_one_code_span(text: str) -> None:
    (_, inline, _) = commonmark().parse(code(text))
    (span,) = inline.children or []
    assert span.type == "code_inline" and span.content.strip() == plain(text).strip()


def test_markdown_leaves_plain_numbers_readable() -> None:
    for text in ("0.15 [0.11, 0.18]", "−0.02 [−0.10, 0.04]", "60.1", "clean + noise", "jcdp (chosen)", "3 min 20 s"):
        assert markdown(text) == text
