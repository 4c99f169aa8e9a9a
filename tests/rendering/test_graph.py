"""The provenance graph: columns by lineage, nothing lost, nothing endless."""

from typing import Any

import pytest

from ue_audit.rendering.graph import ACROSS, LETTERS, MOST, Graph, graph


def _report(made_from: dict[str, list[str]]) -> dict[str, Any]:
    about = {"stage": "purify", "method": "jcdp", "digest": "0123456789ab"}
    return {"provenance": [{"name": name, "parents": parents, **about} for name, parents in made_from.items()]}


CHAIN = {
    "train": [],
    "raw": [],
    "data.emn": ["train"],
    "raw.prior.ckpt": ["raw"],
    "data.emn.jcdp": ["data.emn", "raw.prior.ckpt"],
    "data.jcdp": ["train", "raw.prior.ckpt"],
    "data.eval": ["train", "data.emn", "data.emn.jcdp", "data.jcdp"],
}


def _drawn(made_from: dict[str, list[str]]) -> Graph:
    found = graph(_report(made_from))
    assert found is not None
    return found


def test_everything_stands_right_of_what_it_was_made_from():
    drawn = _drawn(CHAIN)
    x = {box.name: box.x for box in drawn.boxes}
    assert set(x) == set(CHAIN)
    for name, parents in CHAIN.items():
        assert all(x[parent] + ACROSS <= x[name] for parent in parents)


def test_only_the_nearest_parents_are_drawn():
    assert len(_drawn(CHAIN).lines) == 8  # all but train → eval and data.emn → eval


def test_boxes_do_not_lie_on_each_other_and_stay_inside():
    drawn = _drawn(CHAIN)
    places = [(box.x, box.y) for box in drawn.boxes]
    assert len(set(places)) == len(places)
    assert all(0 <= box.x < drawn.width and 0 <= box.y < drawn.height for box in drawn.boxes)


@pytest.mark.parametrize(
    "made_from",
    [
        {"alone": []},
        {"a": [], "b": []},
        {f"set{k}": ["set0"] if k else [] for k in range(MOST + 1)},
    ],
)
def test_what_a_drawing_would_not_help_is_left_to_the_table(made_from):
    assert graph(_report(made_from)) is None


def test_parents_that_are_not_there_and_circles_do_not_hang():
    assert len(_drawn({"a": ["gone"], "b": ["a", "b"], "c": ["b"]}).lines) == 2
    assert len(_drawn({"a": ["b"], "b": ["a"]}).lines) == 2


def test_long_names_keep_both_ends():
    name = "data." + "x" * 40 + ".jcdp"
    box = next(box for box in _drawn({"a": [], name: ["a"]}).boxes if box.name == name)
    assert len(box.short) <= LETTERS and box.short.startswith("data.") and box.short.endswith(".jcdp")
