"""The chart of prices: positions, shapes, the step line, labels, words."""

from typing import Any

import pytest
from priced import attacker, jcdp, near, with_prices

from ue_audit.rendering import html, price_chart
from ue_audit.rendering.charts import LABEL_STEP


def drawn(content: dict[str, Any], *listed: Any) -> price_chart.Chart:
    (chart,) = price_chart.charts(with_prices(content, ("d.emn", list(listed))))
    return chart


def test_time_is_logarithmic_and_recovery_is_not(content: dict[str, Any]) -> None:
    chart = drawn(content, attacker("a", 1, 0.0), attacker("b", 10, 0.5), attacker("c", 3600, 1.0))
    a, b, c = (next(p for p in chart.points if p.label == name) for name in "abc")
    assert [text for _, text in chart.ticks] == ["1 s", "10 s", "1 min", "10 min", "1 h"]
    assert (a.x, c.x) == (0, 100) and b.x == pytest.approx(100 / 3.5563, abs=0.01)  # lg 3600 = 3.5563
    assert a.y - b.y == pytest.approx(b.y - c.y) and a.y > b.y > c.y
    levels = {text: y for y, text in chart.levels}
    assert (levels["0"], levels["50"], levels["100"]) == (a.y, b.y, c.y)


def test_whiskers_are_the_intervals_and_stay_inside(content: dict[str, Any]) -> None:
    wide, bare = attacker("wide", 1, 0.9, (-3.0, 4.0)), attacker("bare", 2, 0.9)
    points = {p.label: p for p in drawn(content, wide, bare).points}
    assert (points["wide"].low, points["wide"].high) == (100, 0)
    assert points["bare"].low is points["bare"].high is None


def test_the_step_line_is_the_most_within_a_time(content: dict[str, Any]) -> None:
    chart = drawn(content, attacker("a", 1, 0.3), attacker("off", 5, 0.1), attacker("b", 10, 0.8))
    a, off, b = (next(p for p in chart.points if p.label == name) for name in ("a", "off", "b"))
    assert chart.steps == ((a.x, a.y, b.x, a.y), (b.x, a.y, b.x, b.y), (b.x, b.y, 100, b.y))
    assert (a.filled, off.filled, b.filled) == (True, False, True)


def test_shapes_tell_what_is_needed(content: dict[str, Any]) -> None:
    own = attacker("own", 3, 0.7, own_images=9, overlap="disjoint")
    points = {p.label: p.path for p in drawn(content, attacker("a", 1, 0.3), own, jcdp()).points}
    assert points == {
        name: price_chart.SHAPES[s] for name, s in (("a", "circle"), ("own", "diamond"), ("jcdp", "square"))
    }


def test_labels_do_not_cover_each_other_and_too_many_are_left_out(content: dict[str, Any]) -> None:
    chart = drawn(content, *(attacker(f"attack{k}", 10, 0.9 + k / 1000) for k in range(30)))
    shown = [p for p in chart.points if p.label]
    assert len(chart.points) == 30 and 5 < len(shown) <= price_chart.LABELS
    heights = sorted(p.label_y for p in shown)
    assert all(b - a > 0.8 * LABEL_STEP for a, b in zip(heights, heights[1:], strict=False))
    assert "attack29" in [p.label for p in shown]  # that on the frontier


def test_no_time_at_all_stands_at_the_left_end(content: dict[str, Any]) -> None:
    chart = drawn(content, attacker("a", 0.0, 0.3), attacker("b", 0.0, 0.5))
    assert {p.x for p in chart.points} == {0} and [text for _, text in chart.ticks] == ["≤ 0.1 s", "1 s"]


def test_the_chart_has_words_and_the_first_is_that_of_the_verdict(content: dict[str, Any]) -> None:
    folder = content["verdict"]["chosen"]["folder"]
    content = with_prices(
        content,
        ("d.emn", [attacker("grayscale", 19.0, 0.62, near(0.62))]),
        ("d.lsp", [jcdp(folder=folder, chosen=True)]),
    )
    first, second = price_chart.charts(content)
    assert (first.name, second.name) == ("d.lsp", "d.emn")
    page = html.render(content).replace("\N{NO-BREAK SPACE}", " ")
    assert "<title>Recovery against time, d.lsp</title>" in page
    assert "<desc>grayscale: 0.62 in 19 s. All figures are in the table below.</desc>" in page
    assert page.count('class="curves costs"') == 2 and "1 more chart" in page
