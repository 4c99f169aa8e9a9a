"""The four forms of one report: equal numbers, hostile names inert, an HTML file that stands on its own."""

import io
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import hostile
import pytest
import synthetic_evaluation
from markdown_it import MarkdownIt
from rich.console import Console

from ue_audit import facts, report
from ue_audit.rendering import figures, html, markdown, summary, tables
from ue_audit.rendering.text import plain
from ue_audit.settings import ReportSettings

VOID = {"meta", "img", "br", "line", "circle", "polygon", "polyline", "hr", "input"}
FORBIDDEN = {"script", "iframe", "object", "embed", "base", "link", "form", "a", "audio", "video", "template"}


class Page(HTMLParser):
    """The tags, attributes and text of a page; fails where tags do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += f"{data} "


def page_text(content: dict[str, Any]) -> str:
    return " ".join(Page(html.render(content)).text.replace("\xa0", " ").split())


def markdown_text(content: dict[str, Any]) -> str:
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown.render(content))
    return " ".join("".join(c.content for c in t.children or []) for t in tokens)


def terminal_text(content: dict[str, Any]) -> str:
    out = io.StringIO()
    Console(file=out, width=400).print(summary.report_panel(content))
    return out.getvalue()


def numbers(text: str) -> set[str]:
    return set(re.findall(r"−?\d+\.\d+", text))


# -- equal numbers -----------------------------------------------------------------------------------------


def leaves(value: Any) -> Iterator[float]:
    """Every number of report.json."""
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, list):
        for item in value:
            yield from leaves(item)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def test_every_number_of_the_tables_is_the_same_in_markdown_html_and_terminal(content: dict[str, Any]) -> None:
    page, text, screen = page_text(content), markdown_text(content), terminal_text(content)
    for table in tables.all_tables(content).values():
        for row in table.rows:
            for cell in row:
                assert cell in text, (table.key, cell)
                assert " ".join(cell.split()) in page.replace(" (chosen)", " (chosen)"), (table.key, cell)
    for key, columns in summary.SHOWN.items():
        for row in tables.all_tables(content)[key].rows if key in tables.all_tables(content) else []:
            assert all(row[column] in screen for column in columns)


def test_numbers_parsed_back_are_those_of_report_json(content: dict[str, Any]) -> None:
    verdict = content["verdict"]
    survival = verdict["survival"]
    expected = [f"{survival[key]:.2f}" for key in ("value", "low", "high")]
    for text in (page_text(content), markdown_text(content), terminal_text(content)):
        found = re.search(r"[Ss]urvival\s+(−?[\d.]+) \[(−?[\d.]+), (−?[\d.]+)\]", text)
        assert found is not None and list(found.groups()) == expected
        found = re.search(r"[Ee]ffect[^\d]*?([\d.]+)(?: points)? \[([\d.]+), ([\d.]+)\]", text)
        assert found is not None
        effect = [round(100 * verdict["effect"][key], 1) for key in ("value", "low", "high")]
        assert [float(group) for group in found.groups()] == effect
        for cell in content["cells"]:
            for accuracy in (cell["accuracy"]["value"], *cell["accuracies"]):
                assert f"{100 * accuracy:.1f}" in numbers(text)


def test_no_form_shows_a_number_that_report_json_lacks(content: dict[str, Any]) -> None:
    known = {write(n) for n in leaves(content) for write in (figures.percent, figures.ratio, figures.decimal)}
    known |= {figures.decimal(n, 3) for n in leaves(content)}
    known |= numbers(json.dumps(content, ensure_ascii=False)) | {"0.2", "0.4", "0.6", "0.8", "0.80", "0.20"}
    for text in (page_text(content), markdown_text(content), terminal_text(content)):
        seconds = set(re.findall(r"(\d+\.\d) s\b", text))
        assert numbers(text) - known - seconds == set()


def test_what_was_not_measured_is_said_in_every_form(tmp_path: Path) -> None:
    means = {k: v for k, v in synthetic_evaluation.MEANS.items() if k[0] not in ("noise", "ceiling")}
    content = composed(tmp_path, synthetic_evaluation.records(means))
    rows = {row[0]: row[1:] for row in tables.accuracies(content).rows}
    assert set(rows["clean + noise of the same norm"]) == {"not measured"}
    assert set(rows["clean + jcdp (ceiling)"]) == {"not measured"}
    for text in (page_text(content), markdown_text(content), terminal_text(content)):
        assert "not measured" in text and "nan" not in text.lower().split() and "None" not in text


# -- hostile names -----------------------------------------------------------------------------------------


def composed(place: Path, records: list[dict[str, Any]], notes: dict[str, Any] | None = None) -> dict[str, Any]:
    evaluation = synthetic_evaluation.write(place, records, notes)
    return report.compose(facts.gather(evaluation), None, ReportSettings(evaluation=evaluation))


def poisoned(value: Any, text: str) -> Any:
    """The same content with `text` in place of every free string and class name."""
    if isinstance(value, dict):
        fixed = ("state", "role", "key", "reading", "grade", "schema", "file")
        return {k: v if k in fixed else poisoned(v, text) for k, v in value.items()}
    if isinstance(value, list):
        return [poisoned(item, text) for item in value]
    return text if isinstance(value, str) else value


@pytest.fixture(scope="module")
def skeleton(evaluation: Path) -> list[tuple[str, Any]]:
    """The tags of a report in which every name is harmless."""
    content = report.compose(facts.gather(evaluation), None, ReportSettings(evaluation=evaluation))
    return [(tag, sorted(attrs)) for tag, attrs in Page(html.render(poisoned(content, "name"))).tags]


@pytest.mark.parametrize("text", hostile.STRINGS)
def test_hostile_names_are_inert_in_every_form(
    text: str, content: dict[str, Any], skeleton: list[tuple[str, Any]]
) -> None:
    bad = poisoned(content, text)
    page = Page(html.render(bad))
    assert [(tag, sorted(attrs)) for tag, attrs in page.tags] == skeleton
    assert plain(text).replace("\\n", "") in page.text.replace("\xa0", " ").replace("\\n", "")
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown.render(bad))
    inline = {c.type for t in tokens for c in t.children or []}
    assert inline <= {"text", "text_special", "strong_open", "strong_close", "code_inline", "softbreak"}
    assert "html_block" not in {t.type for t in tokens}
    out = io.StringIO()
    Console(file=out, width=4000, force_terminal=True, color_system=None).print(summary.report_panel(bad))
    assert plain(text).strip() in out.getvalue()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", out.getvalue())


# -- an HTML file that stands on its own -------------------------------------------------------------------


def test_the_page_loads_nothing_and_runs_nothing(finished: Path) -> None:
    text = (finished / "report.html").read_text()
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & FORBIDDEN
    for tag, attrs in page.tags:
        assert not any(name.startswith("on") for name in attrs)
        assert "href" not in attrs and "srcset" not in attrs
        assert tag == "img" or "src" not in attrs
    metas = {attrs.get("http-equiv"): attrs.get("content") for tag, attrs in page.tags if tag == "meta"}
    policy = metas["Content-Security-Policy"]
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert "url(" not in text and "@import" not in text and "http://" not in text and "https://" not in text
    assert len(text.encode()) < 2_000_000


def test_images_and_charts_have_words_and_tables_have_headers(finished: Path) -> None:
    page = Page((finished / "report.html").read_text())
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == 1 and "clean, protected, change ×16" in str(images[0]["alt"])
    assert all("aria-label" in a or a.get("aria-hidden") == "true" for t, a in page.tags if t == "svg")
    tags = [tag for tag, _ in page.tags]
    assert tags.count("table") == tags.count("caption") == tags.count("thead") > 5
    assert all(a.get("scope") in ("col", "row") for t, a in page.tags if t == "th")
    assert ("html", {"lang": "en"}) in page.tags


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_has_a_contrast_of_four_and_a_half_in_light_dark_and_print(finished: Path) -> None:
    style = (finished / "report.html").read_text().split("<style>")[1].split("</style>")[0]
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    palettes = [dict(re.findall(r"--([a-z0-9]+): (#[0-9a-f]{3,6})", block)) for block in blocks]
    assert len(palettes) == 3
    for palette in palettes:
        colours = {name: v if len(v) == 7 else "#" + "".join(2 * c for c in v[1:]) for name, v in palette.items()}
        for ground in ("paper", "panel", "hair"):
            words = [n for n in colours if n not in ("paper", "panel", "hair", "rule")]
            for name in words if ground == "paper" else ("ink", "soft"):
                one, two = sorted((luminance(colours[name]), luminance(colours[ground])))
                assert (two + 0.05) / (one + 0.05) >= 4.5, (name, ground)


def test_the_sheet_is_one_pixelated_image_of_six_columns(finished: Path) -> None:
    content = json.loads((finished / "report.json").read_text())
    assert content["sheet"]["columns"] == [
        "clean", "protected", "change ×16", "purified by jcdp", "purified by ddpm", "rest ×16",
    ]  # fmt: skip
    text = (finished / "report.html").read_text()
    assert "image-rendering: pixelated" in text and text.count("data:image/png;base64,") == 1
    assert (finished / "report.png").is_file() and "](report.png)" in (finished / "report.md").read_text()
