"""The tables of attackers in the forms of the report: numbers parsed back, what is missing, hostile names."""

import io
import re
from typing import Any

import hostile
import pytest
from markdown_it import MarkdownIt
from priced import attacker, jcdp, near, with_prices
from rich.console import Console
from test_forms import Page

from ue_audit.rendering import attackers, html, markdown, price_chart, summary
from ue_audit.rendering.text import plain

GREY = attacker("grayscale", 19.0, 0.62, (0.5, 0.74), ceiling_recovery={"value": 0.8, "low": 0.6, "high": 1.02})
JCDP = jcdp(948.0, 0.951, (0.9, 1.003), ceiling_recovery=None)


def markdown_rows(content: dict[str, Any], caption: str) -> list[list[str]]:
    """The cells of the first table below a heading, as a reader of Markdown sees them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown.render(content))
    start = next(i for i, t in enumerate(tokens) if t.type == "inline" and t.content == caption)
    rows: list[list[str]] = []
    for token, after in zip(tokens[start:], tokens[start + 1 :], strict=False):
        if token.type == "tr_open":
            rows.append([])
        if token.type in ("td_open", "th_open"):
            rows[-1].append("".join(c.content for c in after.children or []))
        if token.type == "table_close":
            break
    return rows


def html_rows(content: dict[str, Any], key: str) -> list[list[str]]:
    section = html.render(content).split(f'aria-labelledby="h-{key}"')[1].split("</section>")[0]
    rows = re.findall(r"<tr.*?</tr>", section, re.DOTALL)
    cells = [re.findall(r"<(?:td|th)[^>]*>(.*?)</(?:td|th)>", row, re.DOTALL) for row in rows]
    shown = [[" ".join(Page(cell).text.replace("\xa0", " ").split()) for cell in row] for row in cells]
    return [[re.sub(r" +(?=\))", "", cell) for cell in row] for row in shown]


def terminal(content: dict[str, Any], width: int = 400) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(summary.report_panel(content))
    return out.getvalue()


# -- the table ---------------------------------------------------------------------------------------------


def test_the_prices_parsed_back_from_markdown_and_html_are_those_of_report_json(content: dict[str, Any]) -> None:
    content = with_prices(content, ("d.emn", [GREY, JCDP]), ("d.lsp", [jcdp(30.0, 0.2, near(0.2))]))
    expected = [a | {"of": one["protected"]} for one in content["prices"] for a in one["attackers"]]
    for found in (markdown_rows(content, "What an attack costs"), html_rows(content, "prices")):
        assert found[0][:2] == ["Attacker", "Needs"] and len(found) == 1 + len(expected)
        for row, a in zip(found[1:], expected, strict=True):
            assert row[0].removesuffix(" (frontier)") == f"{a['countermeasure']} on {a['of']}"
            assert row[0].endswith("(frontier)") == a["frontier"]
            assert row[1] == ("2,000 raw images, no exact copies of the owner's" if a["raw_images"] else "nothing")
            parsed = [float(part) for part in re.findall(r"\d+\.\d+", row[6])]
            assert parsed == [round(a["recovery"][key], 2) for key in ("value", "low", "high")]
    grey = next(row for row in html_rows(content, "prices") if row[0].startswith("grayscale"))
    assert grey[2:6] == ["none", "19 s", "40 s", "19 s"] and grey[7] == "0.80 [0.60, 1.02]"


def test_the_sentences_stand_in_every_form(content: dict[str, Any]) -> None:
    content = with_prices(content, ("d.emn", [GREY, JCDP]), ("d.lsp", [jcdp()]))
    page = " ".join(Page(html.render(content)).text.replace("\xa0", " ").split())
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown.render(content))
    text = " ".join("".join(c.content for c in t.children or []) for t in tokens)
    for one in content["prices"]:
        for form in (page, text, terminal(content)):
            assert f"{one['protected']}: {one['sentence']}" in form


def test_the_terminal_shows_the_frontier_alone(content: dict[str, Any]) -> None:
    dear = attacker("median", 30.0, 0.1, near(0.1))
    shown = terminal(with_prices(content, ("d.emn", [GREY, JCDP, dear])))
    rows = shown.split("What an attack costs")[1].split("Trained on")[0]
    assert re.search(r"grayscale +nothing +19 s +0.62 \[0.50, 0.74\]", rows) and "15 min 48 s" in rows
    assert "median" not in rows


def test_what_was_not_measured_is_said(content: dict[str, Any]) -> None:
    unknown = jcdp(None, 0.9, (None, None), raw_images=None, overlap="not known", weights=None, knows=None)
    content = with_prices(content, ("d.emn", [unknown]))
    (_, row) = markdown_rows(content, "What an attack costs")
    assert row[1] == (
        "raw images, not measured how many, perhaps some the owner's, weights not measured, knowledge not measured"
    )
    assert row[3] == row[5] == row[7] == "not measured" and "frontier" not in row[0]
    assert price_chart.charts(content) == [] and "frontier" not in terminal(content)


def test_needs_in_words() -> None:
    start = {"name": "big.ckpt", "images": 50_000, "seconds": None}
    tuned = jcdp(start=start, overlap="shared", weights=["lpips-alex"], knows="budget")
    assert attackers.needs(tuned) == (
        "2,000 raw images, a prior fine-tuned from big.ckpt (50,000 images), some the owner's, weights lpips-alex, "
        "knows the budget"
    )
    assert attackers.needs(attacker("dfr", 1, 0.9, own_images=500, overlap="disjoint", knows="method")) == (
        "500 clean labelled images, no exact copies of the owner's, knows the method"
    )


def test_runs_of_one_name_are_told_apart_by_their_folders(content: dict[str, Any]) -> None:
    runs = [jcdp(folder="d.jcdp"), jcdp(recovery=0.9, folder="d.jcdp.s1")]
    rows = markdown_rows(with_prices(content, ("d.emn", [*runs, GREY])), "What an attack costs")
    names = {row[0].removesuffix(" (frontier)") for row in rows[1:]}
    assert names == {"jcdp (d.jcdp)", "jcdp (d.jcdp.s1)", "grayscale"}


def test_where_the_uncertainty_comes_from(content: dict[str, Any]) -> None:
    sources = {source["source"]: source for source in content["uncertainty"]["sources"]}
    sources["purification"].update(n=3, treated=0.0123, between_runs=0.0151, recovery=0.0201)
    for rows in (
        markdown_rows(content, "Where the uncertainty comes from"),
        html_rows(content, "uncertainty"),
    ):
        found = {row[0]: row[1:] for row in rows[1:]}
        assert found["Purification seeds"] == ["3 runs", "none", "none", "1.2 (runs differ by 1.5)", "0.02"]
        test = sources["test"]
        shown = [f"{100 * test[key]:.1f}" for key in ("clean", "protected", "treated")]
        assert found["Test images"] == ["2,000 images", *shown, f"{test['recovery']:.2f}"]
    sources["purification"].update(n=1, treated=None, between_runs=None, recovery=None)
    found = {row[0]: row[1:] for row in markdown_rows(content, "Where the uncertainty comes from")}
    assert found["Purification seeds"] == ["1 run", "none", "none", "not measured", "not measured"]


@pytest.mark.parametrize("text", hostile.STRINGS)
def test_hostile_attackers_are_inert_in_the_price_list(text: str, content: dict[str, Any]) -> None:
    def named(name: str) -> dict[str, Any]:
        start = {"name": name, "images": 5, "seconds": None}
        return with_prices(
            content,
            (name, [jcdp(countermeasure=name, weights=[name], start=start, device=name, folder=name), GREY]),
            ("d.lsp", [GREY]),
        )

    page, harmless = Page(html.render(named(text))), Page(html.render(named("name")))
    assert [(tag, sorted(attrs)) for tag, attrs in page.tags] == [(tag, sorted(attrs)) for tag, attrs in harmless.tags]
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown.render(named(text)))
    assert {c.type for t in tokens for c in t.children or []} <= {
        "text", "text_special", "strong_open", "strong_close", "code_inline", "softbreak",
    }  # fmt: skip
    assert plain(text).strip() in terminal(named(text), 4000)
