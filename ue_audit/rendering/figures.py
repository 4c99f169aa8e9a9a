"""How numbers are written, the same in all four forms of the report. None reads "not measured"."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ue_audit.thresholds import BROKEN, GRADES, MIN_EFFECT, NOISE_MARGIN, UNDEFINED_EFFECT

ABSENT = "not measured"
UNDEFINED = "no effect"  # a ratio of what a protection takes, where it takes nothing
Write = Callable[[float], str]

SURVIVALS = tuple(bound for _, bound in GRADES if math.isfinite(bound)) + (BROKEN,)
FINEST = 8  # decimals, where a bound is that near
EFFECTS = (UNDEFINED_EFFECT, NOISE_MARGIN, MIN_EFFECT)


def percent(value: float | None, bounds: Sequence[float] = ()) -> str:
    """An accuracy, 0.8512 -> "85.1"; the unit stands in the heading."""
    return ABSENT if value is None else _signed(value, 1, bounds, 100)


def points(value: float | None) -> str:
    """A difference of accuracies in points, 0.123 -> "12.3"; 0.0996, which is not 10, -> "9.96"."""
    return percent(value, EFFECTS)


def ratio(value: float | None) -> str:
    """A recovery, 0.0712 -> "0.07"; 0.4996, which is under a half, -> "0.4996"."""
    return ABSENT if value is None else _signed(value, 2, (BROKEN,))


def remaining(value: float | None) -> str:
    """A survival, 0.0712 -> "0.07"; 0.1996, which is an F and no D, -> "0.1996"."""
    return ABSENT if value is None else _signed(value, 2, SURVIVALS)


def share(value: float | None) -> str:
    """A recovery for people, 0.9712 -> "97 %"."""
    return ABSENT if value is None else f"{_signed(value, 0, (BROKEN,), 100)} %"


def survival(verdict: Mapping[str, Any]) -> str:
    """The verdict's survival; undefined where a countermeasure was measured and there was nothing to give back."""
    if verdict["survival"] is None and verdict["chosen"]:
        return UNDEFINED
    return remaining(verdict["survival"] and verdict["survival"]["value"])


def decimal(value: float | None, digits: int = 1, bounds: Sequence[float] = ()) -> str:
    return ABSENT if value is None else _signed(value, digits, bounds)


def count(value: int | None) -> str:
    """12000 -> "12,000"."""
    return ABSENT if value is None else f"{value:,}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return ABSENT
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def interval(value: Any, write: Write) -> str:
    """The bounds in brackets, "[0.02, 0.13]"; "" where there are none. Takes an Estimate or its JSON form."""
    low, high = bounds(value)
    return f"[{write(low)}, {write(high)}]" if low is not None and high is not None else ""


def bounds(value: Any) -> tuple[float | None, float | None]:
    if value is None:
        return None, None
    if isinstance(value, Mapping):
        return value["low"], value["high"]
    return value.low, value.high


def listed(values: Sequence[float], write: Write) -> str:
    """Every seed's figure: "85.1, 84.7, 86.0"."""
    return ", ".join(write(value) for value in values)


def _signed(value: float, digits: int, bounds: Sequence[float] = (), scale: int = 1) -> str:
    """Fixed decimals with a true minus sign, and no minus zero; more decimals where fewer would round the value over
    one of the `bounds` that something is decided by."""
    written = (f"{scale * value:.{places}f}" for places in range(digits, FINEST))
    sides = [value >= bound for bound in bounds]
    usual = f"{scale * value:.{digits}f}"
    text = next((text for text in written if [float(text) >= scale * bound for bound in bounds] == sides), usual)
    if float(text) == 0:
        return text.removeprefix("-")
    return text.replace("-", "−")
