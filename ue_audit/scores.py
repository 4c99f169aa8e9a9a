"""From accuracies to a verdict: intervals, recovery, survival, grade.

    C clean, V protected, P after a countermeasure: means over seeds of accuracies (0..1) on clean test images

    recovery         RR = (P - V) / (C - V)      0 = the protection holds, 1 = fully broken
    survival         S  = 1 - RR                 of the countermeasure chosen on validation images
    ceiling          (P - V) / (C_k - V)         C_k: the same countermeasure on clean images
    chance-normal    (A - chance) / (C - chance)

Two errors add up in a mean over n seeds. The seeds scatter with s, known to n - 1 degrees of freedom; and
the m test images are a sample, the same for every seed, so that its error p (1 - p) / m does not shrink with n.
The interval is Fieller's: all ratios R for which P - V - R (C - V) lies within t standard errors of 0, with
Welch's degrees of freedom. Its coverage is checked by simulation in the tests.

Absent is not zero: a mean of nothing is an error, an undefined ratio is None, an unknown bound is None.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from ue_audit.rendering.figures import points
from ue_audit.thresholds import GRADES, MIN_EFFECT, MIN_SEEDS, UNDEFINED_EFFECT

LEVEL = 0.95
CAUTION = 2  # weight of the seeds' variance in Welch's formula: 1 covers 91.7 % at the worst, 2 covers 93.1 %


class Estimate(NamedTuple):
    """A number and its 95 % interval; a bound that cannot be known is None."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Arm:
    """The accuracies (0..1) of one cell, one per seed, each on the same `n_test` images."""

    accuracies: tuple[float, ...]
    n_test: int

    def __post_init__(self) -> None:
        if not self.accuracies or self.n_test < 1:
            raise ValueError(f"expected accuracies on test images, found {self.accuracies} on {self.n_test}")
        if not all(0 <= a <= 1 for a in self.accuracies):
            raise ValueError(f"expected accuracies between 0 and 1, found {self.accuracies}")

    @property
    def seeds(self) -> int:
        return len(self.accuracies)

    @property
    def mean(self) -> float:
        return mean(self.accuracies)

    @property
    def spread(self) -> float | None:
        """The standard deviation over seeds (n - 1 in the denominator); None with one seed."""
        return float(np.std(self.accuracies, ddof=1)) if self.seeds > 1 else None


def mean(values: Sequence[float]) -> float:
    """The mean; of nothing, a ValueError."""
    if not values:
        raise ValueError("expected at least one value, found none: a mean of nothing is not 0")
    return math.fsum(values) / len(values)


def wilson(share: float, n: int, level: float = LEVEL) -> Estimate:
    """Wilson's interval of one share of n images: the error of the test set alone."""
    if n < 1 or not 0 <= share <= 1:
        raise ValueError(f"expected a share of at least one image, found {share} of {n}")
    z2 = float(stats.norm.ppf((1 + level) / 2)) ** 2
    centre = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half))


def accuracy(arm: Arm, level: float = LEVEL) -> Estimate:
    """The mean over seeds with its interval: seeds and test set, or Wilson's alone with one seed."""
    if arm.seeds == 1:
        return wilson(arm.accuracies[0], arm.n_test, level)
    between, sampling = _variances(arm)
    half = float(_t((between,), (sampling,), (arm.seeds,), level)) * math.sqrt(between + sampling)
    return Estimate(arm.mean, max(0.0, arm.mean - half), min(1.0, arm.mean + half))


def effect(clean: Arm, protected: Arm, level: float = LEVEL) -> Estimate:
    """C - V: what the protection takes from a model, before any countermeasure."""
    value = clean.mean - protected.mean
    if min(clean.seeds, protected.seeds) < 2:
        return Estimate(value)
    (c, c_test), (v, v_test) = _variances(clean), _variances(protected)
    t = float(_t((c, v), (c_test, v_test), (clean.seeds, protected.seeds), level))
    half = t * math.sqrt(c + v + c_test + v_test)
    return Estimate(value, value - half, value + half)


def recovery(clean: Arm, protected: Arm, treated: Arm, level: float = LEVEL) -> Estimate | None:
    """RR with Fieller's interval; None when C - V is under 5 points. One seed or a faint effect: no bounds.

    With `clean` the ceiling of a countermeasure (C_k), the same formula is the ceiling-relative recovery.
    """
    arms = (treated, protected, clean)
    p, v, c = (arm.mean for arm in arms)
    if c - v < UNDEFINED_EFFECT:
        return None
    value = (p - v) / (c - v)
    if min(arm.seeds for arm in arms) < 2:
        return Estimate(value)
    between, sampling = zip(*map(_variances, arms), strict=True)
    low, high = fieller((p, v, c), between, sampling, tuple(arm.seeds for arm in arms), level)
    return Estimate(value, _finite(low), _finite(high))


def survival(clean: Arm, protected: Arm, treated: Arm, level: float = LEVEL) -> Estimate | None:
    """S = 1 - RR; None where RR is."""
    rr = recovery(clean, protected, treated, level)
    if rr is None:
        return None
    return Estimate(
        1 - rr.value,
        None if rr.high is None else 1 - rr.high,
        None if rr.low is None else 1 - rr.low,
    )


def difference(second: Estimate, first: Estimate) -> Estimate:
    """second - first of two independent estimates, its bounds by squaring and adding theirs (MOVER, Zou and Donner
    2008): exact for symmetric intervals, and right for Fieller's, too. Without bounds where one has none."""
    value = second.value - first.value
    if second.low is None or second.high is None or first.low is None or first.high is None:
        return Estimate(value)
    below = math.hypot(second.value - second.low, first.high - first.value)
    above = math.hypot(second.high - second.value, first.value - first.low)
    return Estimate(value, value - below, value + above)


def chance_normalised(value: float, clean: float, chance: float) -> float | None:
    """(A - chance) / (C - chance); None when the clean model itself is at chance."""
    return (value - chance) / (clean - chance) if clean - chance >= UNDEFINED_EFFECT else None


def remaining_gap(clean: float, ceiling: float, treated: float) -> tuple[float, float]:
    """C - P in two parts: what the countermeasure itself costs, C - C_k, and what is left, C_k - P."""
    return clean - ceiling, ceiling - treated


def grade(
    left: Estimate | None, taken: Estimate, seeds: int, noise_control: bool, tried: bool = False
) -> tuple[str | None, tuple[str, ...]]:
    """The letter for the lower end of survival, or None and every reason why there is none.

    `left` is the survival, `taken` the effect C - V, `seeds` the fewest of the arms that enter the survival. Without a
    survival, `tried` says whether a countermeasure was measured, though none that counts.
    """
    reasons = []
    if taken.value < MIN_EFFECT:
        reasons.append(f"it never protected: clean minus protected is {points(taken.value)} points, under 10")
    if seeds < MIN_SEEDS:
        reasons.append(f"{seeds} training seed{'s' * (seeds != 1)}, and a grade needs at least {MIN_SEEDS}")
    if not noise_control:
        reasons.append("no noise control: damage by the noise itself cannot be told from protection")
    if left is None and taken.value >= MIN_EFFECT:
        beaten = "no countermeasure gives more than the attacker's own images do alone"
        reasons.append(beaten if tried else "no countermeasure was measured")
    elif left is not None and left.low is None and not reasons:
        reasons.append("the seeds scatter too much for an interval of the survival")
    if reasons or left is None or left.low is None:
        return None, tuple(reasons)
    low = left.low
    return next(letter for letter, bound in GRADES if low >= bound), ()


def boundaries(left: Estimate) -> tuple[float, ...]:
    """The bounds of grades that an interval of survival holds, low < bound <= high: the grade could be either side's.

    An interval without bounds, of seeds that scatter too much, holds all of them.
    """
    bounds = tuple(sorted(bound for _, bound in GRADES if math.isfinite(bound)))
    if left.low is None or left.high is None:
        return bounds
    return tuple(bound for bound in bounds if left.low < bound <= left.high)


def fieller(means: Any, between: Any, sampling: Any, seeds: Any, level: float = LEVEL) -> tuple[Any, Any]:
    """Fieller's bounds of (P - V) / (C - V); each argument is a triple (P, V, C) of numbers or of arrays.

    `between` are the variances of the means over seeds, `sampling` those of the test set. Where C - V cannot
    be told from 0 the set of ratios is unbounded: -inf, inf.
    """
    p, v, c = means
    rise, fall = p - v, c - v
    ratio = rise / fall
    weights = (1.0, (1 - ratio) ** 2, ratio**2)
    t2 = _t(_weighed(weights, between), _weighed(weights, sampling), seeds, level) ** 2
    var_p, var_v, var_c = (b + s for b, s in zip(between, sampling, strict=True))
    # (rise - R fall)² <= t² (var_p + (1 - R)² var_v + R² var_c), that is a R² - 2 b R + q <= 0
    a = fall**2 - t2 * (var_v + var_c)
    b = rise * fall - t2 * var_v
    q = rise**2 - t2 * (var_p + var_v)
    with np.errstate(invalid="ignore", divide="ignore"):
        root = np.sqrt(b**2 - a * q)
        return np.where(a > 0, (b - root) / a, -np.inf), np.where(a > 0, (b + root) / a, np.inf)


def _t(between: Any, sampling: Any, seeds: Any, level: float) -> Any:
    """Student's quantile at Welch's degrees of freedom; the test set's variance counts as known.

    Three seeds that happen to agree look like no seed error at all, hence CAUTION: rather too few degrees.
    """
    total = CAUTION * sum(between) + sum(sampling)
    doubt = sum((CAUTION * b) ** 2 / (n - 1) for b, n in zip(between, seeds, strict=True))
    freedom = total**2 / np.maximum(doubt, np.finfo(float).tiny)
    return stats.t.ppf((1 + level) / 2, np.minimum(freedom, 1e9))


def _variances(arm: Arm) -> tuple[float, float]:
    """Of the mean: over seeds, and over test sets (with Agresti's two successes and two failures)."""
    assert arm.spread is not None
    return arm.spread**2 / arm.seeds, sampling(arm)


def sampling(arm: Arm) -> float:
    """The variance of an accuracy that the test images make."""
    share = (arm.mean * arm.n_test + 2) / (arm.n_test + 4)
    return share * (1 - share) / arm.n_test


def _weighed(weights: Any, variances: Any) -> tuple[Any, ...]:
    return tuple(w * v for w, v in zip(weights, variances, strict=True))


def _finite(bound: Any) -> float | None:
    return float(bound) if np.isfinite(bound) else None
