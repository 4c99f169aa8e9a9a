"""How numbers are written."""

import pytest

from ue_audit.rendering import figures
from ue_audit.scores import Estimate


def test_none_is_not_measured_and_never_zero() -> None:
    for write in (figures.percent, figures.points, figures.ratio, figures.decimal, figures.count, figures.duration):
        assert write(None) == "not measured"
        assert write(0) != "not measured"


def test_signs_and_decimals() -> None:
    assert figures.percent(0.85123) == "85.1"
    assert figures.ratio(-0.0712) == "−0.07"
    assert figures.ratio(-0.001) == "0.00"
    assert figures.count(12000) == "12,000"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.081, "0.1 s"), (42, "42 s"), (200, "3 min 20 s"), (3599.6, "1 h 0 min"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert figures.duration(seconds) == text


def test_intervals_have_both_bounds_or_nothing() -> None:
    assert figures.interval(Estimate(0.1, 0.02, 0.13), figures.ratio) == "[0.02, 0.13]"
    assert figures.interval({"value": 0.1, "low": -0.02, "high": 0.13}, figures.ratio) == "[−0.02, 0.13]"
    assert figures.interval(Estimate(0.1), figures.ratio) == figures.interval(None, figures.ratio) == ""
