"""How numbers are written."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ue_audit import thresholds
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


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (figures.remaining, 0.1996, "0.1996"), (figures.remaining, 0.19996, "0.19996"),
        (figures.remaining, 0.2, "0.20"),
        (figures.remaining, 0.196, "0.196"), (figures.remaining, 0.194, "0.19"), (figures.remaining, 0.204, "0.20"),
        (figures.remaining, 0.7996, "0.7996"), (figures.remaining, 0.4996, "0.4996"), (figures.ratio, 0.5004, "0.50"),
        (figures.remaining, 0.69996, "0.70"), (figures.remaining, -0.19996, "−0.20"), (figures.ratio, 0.796, "0.80"),
        (figures.ratio, 0.4996, "0.4996"),
        (figures.points, 0.0996, "9.96"), (figures.points, 0.1, "10.0"), (figures.points, 0.09994, "9.99"),
        (figures.points, 0.04999, "4.999"), (figures.points, 0.5396, "54.0"),
        (figures.share, 0.4996, "49.96 %"), (figures.share, 0.5, "50 %"), (figures.share, 0.7951, "80 %"),
        (figures.share, 0.9, "90 %"),
    ],
)  # fmt: skip
def test_no_figure_is_rounded_over_a_bound_that_something_is_decided_by(
    write: Callable[[float], str], value: float, text: str
) -> None:
    assert write(value) == text


@given(st.floats(-0.5, 1.5))
def test_a_reader_decides_as_the_report_does(value: float) -> None:
    """What is written stands on the same side of every bound, and within a hundredth of the figure."""
    value = round(value, 6)  # as report.json has it
    for bound in figures.SURVIVALS:
        assert (read(figures.remaining(value)) >= bound) == (value >= bound)
    half = thresholds.BROKEN
    assert (read(figures.ratio(value)) >= half) == (value >= half)
    assert (read(figures.share(value).removesuffix(" %")) >= 100 * half) == (value >= half)
    for bound in figures.EFFECTS:
        assert (read(figures.points(value)) >= 100 * bound) == (value >= bound)
    assert abs(read(figures.ratio(value)) - value) <= 0.005 + 1e-9


def read(text: str) -> float:
    return float(text.replace("−", "-"))
