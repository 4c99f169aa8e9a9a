"""Test images, training seeds and purification seeds, told apart."""


import numpy as np
import pytest
from test_findings import arms, only, record

from ue_audit import scores, uncertainty


def test_uncertainty_tells_test_images_training_and_purification_apart() -> None:
    """V = .3, C = .9, and P = .6, .7 and .8 in three runs, whose spread is .1: an error of .1 / .6 in the recovery."""
    means = {"": 0.6, ".s1": 0.7, ".s2": 0.8}
    runs = [record("purified", f"d.emn.jcdp{end}", "jcdp", mean) for end, mean in means.items()]
    contest = only(arms(*runs))
    repeats = [g for g, _ in contest.attacks]
    chosen = contest.best[0] if contest.best else None
    found = uncertainty.sources(contest, repeats)
    assert found is not None and chosen is not None and found["folder"] == chosen.folder == "d.emn.jcdp.s2"
    test, training, purification = found["sources"]
    assert (test["n"], training["n"], purification["n"]) == (1000, 3, 3)
    assert [training[key] for key in ("clean", "protected", "treated", "recovery")] == pytest.approx([0] * 4)
    p = 802 / 1004  # with Agresti's two successes and failures
    assert test["treated"] == pytest.approx((p * (1 - p) / 1000) ** 0.5)
    assert purification["treated"] == purification["between_runs"] == pytest.approx(0.1)
    assert purification["clean"] is purification["protected"] is None
    assert purification["recovery"] == pytest.approx(0.1 / 0.6)


def test_uncertainty_that_was_not_measured_is_none_and_a_learner_does_not_purify() -> None:
    one = only(arms(record("purified", "d.emn.jcdp", "jcdp", 0.6), seeds=1))
    found = uncertainty.sources(one, [one.attacks[0][0]])
    assert found is not None
    _, training, purification = found["sources"]
    assert training["treated"] is training["recovery"] is purification["treated"] is purification["recovery"] is None
    assert uncertainty.sources(only(arms()), []) is None
    hard = {"learner": "at", "learner_kind": "countermeasure", "learner_method": "at", "counters": "supervised"}
    plain = [{"learner_method": "supervised"} | r for r in arms()]
    own = [record(role, folder, None, 0.6, **hard) for role, folder in (("protected", "d.emn"), ("clean", "train"))]
    found = uncertainty.sources(only([*plain, *own]), [])
    assert found is not None and [s["source"] for s in found["sources"]] == ["test", "training"]


def test_the_spread_of_runs_without_what_their_seeds_explain() -> None:
    """Means .6 and .8 scatter by sqrt(.02); spread .1 over 4 seeds explains a variance of .0025 in each."""
    steady = [scores.Arm((m,) * 4, 1000) for m in (0.6, 0.8)]
    spread, alone = uncertainty.between_runs(steady) or (None, None)
    assert spread == alone == pytest.approx(0.02**0.5)
    half = 0.1 * (3 / 4) ** 0.5  # two above, two below: the standard deviation (n - 1) is .1
    loose = [scores.Arm((m - half, m - half, m + half, m + half), 1000) for m in (0.6, 0.8)]
    spread, alone = uncertainty.between_runs(loose) or (None, None)
    assert spread == pytest.approx(0.02**0.5) and alone == pytest.approx((0.02 - 0.0025) ** 0.5)
    same = [scores.Arm((0.5, 0.7), 1000)] * 2
    assert uncertainty.between_runs(same) == (0.0, 0.0)
    assert uncertainty.between_runs(steady[:1]) is None
    assert uncertainty.between_runs([scores.Arm((0.6,), 9), scores.Arm((0.8,), 9)]) == (pytest.approx(0.02**0.5), None)


def test_the_error_of_a_recovery_is_the_spread_of_recoveries_drawn_with_these_errors() -> None:
    rng, errors = np.random.default_rng(0), (0.004, 0.006, 0.005)
    c, v, p = (rng.normal(mean, error, 200_000) for mean, error in zip((0.9, 0.3, 0.7), errors, strict=True))
    drawn = ((p - v) / (c - v)).std()
    assert uncertainty.recovery_error(0.9, 0.3, 0.7, errors) == pytest.approx(drawn, rel=0.01)
    assert uncertainty.recovery_error(0.33, 0.3, 0.31, errors) is None
