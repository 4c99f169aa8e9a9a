"""Ratios by hand, and when a goal is met."""

import pytest

from ue_audit.benches.rows import Goal, Part, Row, compared, ratio_of
from ue_audit.benches.timing import Measured


def test_a_ratio_is_of_times_per_image_round_by_round() -> None:
    """0.1 and 0.2 s an image beside 0.5 s: 5 and 2.5 times, in the middle 3.75."""
    measured = {"plain": Measured([10.0, 10.0], 20), "ours": Measured([1.0, 2.0], 10)}
    plain, ours = compared(measured, "plain", peaks={"ours": 5}, figures={"ours": {"dB": 30.0}})
    assert (plain.baseline, plain.ratio, plain.images_per_second) == (None, None, 2.0)
    assert (ours.baseline, ours.ratio, ours.ratio_spread) == ("plain", 3.75, (2.5, 5.0))
    assert (ours.seconds, ours.spread, ours.n, ours.peak_memory) == (1.5, (1.0, 2.0), 2, 5)
    assert ratio_of([plain, ours], "ours") == 3.75 and ratio_of([plain], "ours") is None


def test_runs_without_images_are_compared_as_they_are() -> None:
    _, ours = compared({"plain": Measured([3.0]), "ours": Measured([1.5])}, "plain")
    assert ours.ratio == 2.0 and ours.images_per_second is None


@pytest.mark.parametrize(
    ("found", "at_least", "met"),
    [(10.0, True, True), (9.9, True, False), (9.9, False, True), (10.1, False, False), (None, True, None)],
)
def test_goals(found: float | None, at_least: bool, met: bool | None) -> None:
    assert Goal("x", 10.0, found, at_least).met is met


def test_what_was_not_measured_is_null() -> None:
    document = Part([Row("x")], [Goal("y", 1.0, None)]).document("prior", "Title")
    [row], [goal] = document["rows"], document["goals"]
    assert row["part"] == "prior" and row["n"] == 0 and goal["met"] is None
    absent = ("images", "seconds", "spread", "images_per_second", "peak_memory", "baseline", "ratio", "ratio_spread")
    assert [row[key] for key in absent] == [None] * len(absent)
