"""Scores: by hand where there is a closed form, by brute force where there is not, coverage by simulation."""

import itertools
import math
import os

import numpy as np
import pytest

from ue_audit import scores
from ue_audit.scores import Arm, Estimate

# true means (P, V, C) of the simulated audits: broken, half, holding, faint effect, better than clean
TRUTHS = [(0.85, 0.25, 0.9), (0.5, 0.25, 0.9), (0.27, 0.25, 0.9), (0.8, 0.6, 0.85), (0.92, 0.25, 0.9)]
SPREADS = [
    *((s, s, s) for s in (0.003, 0.01, 0.02, 0.05)),
    *itertools.chain(*(((s, t, t), (t, s, t), (t, t, s)) for s, t in ((0.05, 0.003), (0.02, 0.003)))),
    (0.05, 0.05, 0.003),
    (0.003, 0.05, 0.02),
]


def arm(*accuracies: float, n_test: int = 1000) -> Arm:
    return Arm(accuracies, n_test)


def test_a_mean_of_nothing_is_an_error() -> None:
    for make in (lambda: scores.mean([]), lambda: arm(), lambda: arm(0.5, n_test=0), lambda: arm(1.5)):
        with pytest.raises(ValueError, match="expected"):
            make()


def test_wilson_by_hand() -> None:
    # Wilson 1927 for 0 of 10: high = z² / (n + z²) = 3.8415 / 13.8415
    zero = scores.wilson(0.0, 10)
    assert (zero.low, zero.high) == (pytest.approx(0, abs=1e-12), pytest.approx(0.27753, abs=1e-5))
    half = scores.wilson(0.5, 100)  # half width z sqrt(.25/100 + z²/40000) / (1 + z²/100) = .09617
    assert (half.low, half.high) == (pytest.approx(0.40383, abs=1e-5), pytest.approx(0.59617, abs=1e-5))


def test_recovery_and_survival_by_hand() -> None:
    clean, protected, purified = arm(0.8, 0.9, 1.0), arm(0.2, 0.3, 0.4), arm(0.5, 0.6, 0.7)
    rr = scores.recovery(clean, protected, purified)
    left = scores.survival(clean, protected, purified)
    assert rr is not None and left is not None  # (.6 - .3) / (.9 - .3)
    assert rr.value == pytest.approx(0.5) and left.value == pytest.approx(0.5)
    assert (left.low, left.high) == (pytest.approx(1 - rr.high), pytest.approx(1 - rr.low))


def test_with_known_clean_and_protected_fieller_is_students_interval() -> None:
    # variances of V and C zero: R = (P - V)/(C - V) +- t(2) s/(sqrt(3) (C - V)), and t(2, 97.5 %) = 4.30265
    nothing = (0.0, 0.0, 0.0)
    low, high = scores.fieller((0.5, 0.2, 0.8), (0.0012, 0, 0), nothing, (3, 3, 3))
    half = 4.30265 * math.sqrt(0.0012) / 0.6
    assert (float(low), float(high)) == (pytest.approx(0.5 - half, 1e-5), pytest.approx(0.5 + half, 1e-5))


def test_fieller_bounds_are_where_the_contrast_is_t_standard_errors_from_zero() -> None:
    (p, v, c), between, sampling = (0.6, 0.3, 0.9), (0.0004, 0.0009, 0.0001), (0.0002, 0.0002, 0.0001)
    low, high = map(float, scores.fieller((p, v, c), between, sampling, (3, 5, 4)))
    ratios = np.linspace(-1, 2, 3_000_001)
    var_p, var_v, var_c = (b + s for b, s in zip(between, sampling, strict=True))
    distance = np.abs(p - v - ratios * (c - v)) / np.sqrt(var_p + (1 - ratios) ** 2 * var_v + ratios**2 * var_c)
    t = distance[np.searchsorted(ratios, low)]
    inside = ratios[distance <= t]
    assert (inside[0], inside[-1]) == (pytest.approx(low, abs=1e-5), pytest.approx(high, abs=1e-5))


def test_an_effect_lost_in_the_noise_has_no_bounds() -> None:
    rr = scores.recovery(arm(0.9, 0.5, 0.7), arm(0.3, 0.7, 0.6), arm(0.6, 0.6, 0.7))
    assert rr is not None and rr.low is None and rr.high is None


def test_recovery_is_undefined_without_effect_and_unbounded_with_one_seed() -> None:
    assert scores.recovery(arm(0.8, 0.8), arm(0.78, 0.78), arm(0.8, 0.8)) is None
    assert scores.survival(arm(0.8, 0.8), arm(0.9, 0.9), arm(0.8, 0.8)) is None
    assert scores.recovery(arm(0.8), arm(0.3), arm(0.8)) == Estimate(pytest.approx(1.0), None, None)


def test_more_seeds_and_more_test_images_narrow_the_interval() -> None:
    def width(n: int, m: int) -> float:
        seeds = [a for a in (-0.01, 0.01) for _ in range(n)]
        arms = (Arm(tuple(mean + s for s in seeds), m) for mean in (0.9, 0.3, 0.7))
        rr = scores.recovery(*arms)
        assert rr is not None and rr.low is not None and rr.high is not None
        return rr.high - rr.low

    assert width(2, 1000) > width(5, 1000) > width(5, 10_000)


def test_accuracy_of_one_seed_is_wilsons_and_of_several_is_wider() -> None:
    assert scores.accuracy(arm(0.5, n_test=100)) == scores.wilson(0.5, 100)
    several = scores.accuracy(arm(0.45, 0.5, 0.55, n_test=100))
    assert several.low is not None and several.low < 0.40383


def test_seeds_that_agree_leave_the_test_set_error() -> None:
    # share (.5 m + 2)/(m + 4) = .5, variance .25/100, quantile 1.96
    same = scores.accuracy(arm(0.5, 0.5, 0.5, n_test=100))
    assert same.high == pytest.approx(0.5 + 1.959964 * 0.05)


def test_effect_has_an_interval_over_both_arms() -> None:
    taken = scores.effect(arm(0.9, 0.9), arm(0.3, 0.3))
    assert taken.value == pytest.approx(0.6)
    assert taken.low is not None and 0.5 < taken.low < 0.6
    assert scores.effect(arm(0.9), arm(0.3)).low is None


def test_chance_normalised_and_the_remaining_gap() -> None:
    assert scores.chance_normalised(0.55, 0.85, 0.25) == pytest.approx(0.5)
    assert scores.chance_normalised(0.25, 0.26, 0.25) is None
    assert scores.remaining_gap(0.9, 0.85, 0.6) == (pytest.approx(0.05), pytest.approx(0.25))


@pytest.mark.parametrize(
    ("low", "letter"),
    list(zip((0.95, 0.8, 0.79, 0.6, 0.59, 0.4, 0.2, 0.1, -0.3), "AABBCCDFF", strict=True)),
)
def test_the_lower_end_decides_the_grade(low: float, letter: str) -> None:
    assert scores.grade(Estimate(0.96, low, 1.0), Estimate(0.5), 3, True) == (letter, ())


@pytest.mark.parametrize(
    ("low", "high", "held"),
    [
        (0.17, 0.24, (0.2,)),
        (0.2, 0.39, ()),  # .2 itself is a D at both ends
        (0.1, 0.2, (0.2,)),
        (-0.3, 0.1, ()),
        (0.35, 0.65, (0.4, 0.6)),
        (0.81, 1.2, ()),
        (None, None, (0.2, 0.4, 0.6, 0.8)),
    ],
)
def test_the_boundaries_that_an_interval_holds(low: float | None, high: float | None, held: tuple[float, ...]) -> None:
    assert scores.boundaries(Estimate(0.2, low, high)) == held
    if low is not None and not held:
        taken = Estimate(0.5)
        both = [scores.grade(Estimate(0.2, end, high), taken, 3, True)[0] for end in (low, high)]
        assert both[0] == both[1], "the grade is the same wherever in it the truth lies"


@pytest.mark.parametrize(
    ("left", "taken", "seeds", "noise", "reason"),
    [
        (Estimate(0.9, 0.85, 0.95), 0.09, 3, True, "never protected"),
        (None, 0.03, 3, True, "never protected"),
        (Estimate(0.9, 0.85, 0.95), 0.5, 2, True, "2 training seeds"),
        (Estimate(0.9), 0.5, 1, True, "1 training seed,"),
        (Estimate(0.9, 0.85, 0.95), 0.5, 3, False, "no noise control"),
        (None, 0.5, 3, True, "no countermeasure"),
        (Estimate(0.9), 0.5, 3, True, "scatter"),
    ],
)
def test_no_grade_has_a_reason(left: Estimate, taken: float, seeds: int, noise: bool, reason: str) -> None:
    letter, reasons = scores.grade(left, Estimate(taken), seeds, noise)
    assert letter is None and len(reasons) == 1 and reason in reasons[0]


def test_every_reason_is_named() -> None:
    assert len(scores.grade(Estimate(0.9), Estimate(0.02), 1, False)[1]) == 3


def coverage(
    n: int, m: int, spreads: tuple[float, ...], truth: tuple[float, ...], draws: int, test_set: str = "shared"
) -> float:
    """The share of simulated audits whose interval holds the true recovery.

    A seed's accuracy is normal about the truth, and the test images add their error: "shared" by all seeds
    of an arm (what the interval supposes), "paired" over all arms too, or "fresh" for every training.
    """
    random = np.random.default_rng((n, m, round(1e4 * sum(spreads)), round(1e4 * sum(truth))))
    common = random.normal(0, 1, (draws, 1))
    means, between, sampling = [], [], []
    for mu, spread in zip(truth, spreads, strict=True):
        seeds = mu + random.normal(0, spread, (draws, n))
        deviate = common if test_set == "paired" else random.normal(0, 1, (draws, n))
        deviate = deviate[:, :1] if test_set == "shared" else deviate
        measured = seeds + math.sqrt(mu * (1 - mu) / m) * deviate
        mean = measured.mean(1)
        share = (mean * m + 2) / (m + 4)
        means.append(mean)
        between.append(measured.var(1, ddof=1) / n)
        sampling.append(share * (1 - share) / m)
    low, high = scores.fieller(means, between, sampling, (n, n, n))
    true = (truth[0] - truth[1]) / (truth[2] - truth[1])
    return float(((low <= true) & (true <= high)).mean())


@pytest.mark.parametrize("n", [3, 5])
def test_nominal_95_percent_intervals_cover_92_to_98_percent(n: int) -> None:
    slow = os.environ.get("UE_AUDIT_SLOW") == "1"
    draws, sizes = (100_000, (300, 500, 1000, 2000, 4000, 10_000)) if slow else (4000, (500, 2000))
    found = {case: coverage(n, case[0], case[1], case[2], draws) for case in itertools.product(sizes, SPREADS, TRUTHS)}
    worst, best = min(found, key=found.__getitem__), max(found, key=found.__getitem__)
    print(f"n = {n}: {len(found)} settings cover {found[worst]:.3f} {worst} to {found[best]:.3f} {best}")
    assert found[worst] >= 0.92 and found[best] <= 0.98


@pytest.mark.parametrize("test_set", ["fresh", "paired"])
@pytest.mark.parametrize("n", [3, 5])
def test_intervals_never_cover_too_little_when_the_test_error_is_smaller(n: int, test_set: str) -> None:
    cases = itertools.product((500, 4000), SPREADS, TRUTHS)
    assert min(coverage(n, *case, 2000, test_set) for case in cases) >= 0.92
