"""From records to findings: who is compared with whom, what is chosen on validation images, what is undefined."""

from typing import Any

import pytest
import synthetic_evaluation as synthetic

from ue_audit import contests, findings, scores

Records = list[dict[str, Any]]


def record(role: str, folder: str, countermeasure: str | None, last: float, **more: Any) -> dict[str, Any]:
    """A training with flat numbers; `more` overrides."""
    cell = {"role": role, "folder": folder, "countermeasure": countermeasure}
    flat = dict.fromkeys(("last", "chosen", "peak", "val_last", "val_chosen"), last)
    point = {"epoch": 1, "loss": 0.1, "val": last, "test": last}
    return {
        "cell": cell, "learner": "supervised", "recipe": {}, "seed": 0, "images": 100, "epochs": 1, "curve": [point],
        "per_class": {"a": last, "b": last}, "n_test": 1000, "n_val": 100, **flat, **more,
    }  # fmt: skip


def arms(*more: dict[str, Any], seeds: int = 3) -> Records:
    base = [
        record("clean", "train", None, 0.9),
        record("noise", "d.emn (noise of the same norm)", None, 0.9),
        record("protected", "d.emn", None, 0.3),
        *more,
    ]
    return [r | {"seed": seed} for r in base for seed in range(seeds)]


def only(records: Records, parents: dict[str, str] | None = None) -> contests.Contest:
    (contest,) = contests.gather(contests.groups(records), parents or {})
    return contest


def test_the_countermeasure_is_chosen_on_validation_images_not_on_test_images() -> None:
    lucky = record("purified", "d.emn.a", "a", 0.8, val_last=0.6)  # best on the test images
    solid = record("purified", "d.emn.b", "b", 0.7, val_last=0.7)
    contest = only(arms(lucky, solid))
    assert contest.best is not None and contest.best[0].countermeasure == "b"
    survival = contest.survival()
    assert survival is not None and survival.value == pytest.approx(1 - (0.7 - 0.3) / 0.6)
    best = [findings.attack(contest, *pair, chance=0.5)["chosen"] for pair in contest.attacks]
    assert best == [False, True]


def test_a_ceiling_belongs_to_its_countermeasure() -> None:
    contest = only(
        arms(
            record("purified", "d.emn.a", "a", 0.7),
            record("purified", "d.emn.b", "b", 0.6),
            record("ceiling", "d.a", "a", 0.8),
        )
    )
    found = {g.countermeasure: findings.attack(contest, g, ceiling, 0.5) for g, ceiling in contest.attacks}
    assert found["a"]["ceiling"] == pytest.approx(0.8)
    assert found["a"]["ceiling_recovery"]["value"] == pytest.approx((0.7 - 0.3) / (0.8 - 0.3))
    assert [found["a"][key] for key in ("distortion_cost", "residual_protection")] == pytest.approx([0.1, 0.1])
    assert found["b"]["ceiling"] is found["b"]["ceiling_recovery"] is found["b"]["distortion_cost"] is None


def test_missing_cells_are_none_and_not_zero() -> None:
    contest = only([r for r in arms() if r["cell"]["role"] != "noise"])
    assert contest.noise is None and contest.best is None and contest.survival() is None
    assert [row["purified"] for row in findings.readings(contest)] == [None, None, None]
    assert all(row["purified"] is None and row["survival"] is None for row in findings.per_class(contest))


def test_early_stopping_is_an_attack_of_its_own() -> None:
    records = arms(record("purified", "d.emn.jcdp", "jcdp", 0.5))
    for r in records:
        if r["cell"]["role"] == "protected":
            r["chosen"] = 0.6  # half of C - V = .6 is back
    assert findings.early_stopping(only(records)) == pytest.approx(0.5)


def test_the_least_protected_class_comes_first_and_one_without_effect_last() -> None:
    clean, protected = {"x": 0.9, "y": 0.9, "z": 0.5}, {"x": 0.3, "y": 0.3, "z": 0.45}
    purified = {"x": 0.4, "y": 0.8, "z": 0.5}
    records = [
        record("clean", "train", None, 0.8, per_class=clean),
        record("protected", "d.emn", None, 0.3, per_class=protected),
        record("purified", "d.emn.jcdp", "jcdp", 0.7, per_class=purified),
    ]
    rows = findings.per_class(only(records))
    assert [row["class"] for row in rows] == ["y", "x", "z"]
    assert [row["survival"] for row in rows] == [pytest.approx(1 / 6), pytest.approx(5 / 6), None]


def test_curves_hold_mean_and_range_over_seeds() -> None:
    records = synthetic.records(seeds=3)
    group = next(g for g in contests.groups(records) if g.role == "protected")
    curve = findings.curve(group)
    tests = [[p["test"] for p in r["curve"]] for r in group.records]
    assert len(curve["points"]) == synthetic.EPOCHS
    assert curve["points"][4] == {
        "epoch": 5,
        "mean": scores.mean([t[4] for t in tests]),
        "low": min(t[4] for t in tests),
        "high": max(t[4] for t in tests),
    }


def test_what_never_protected_is_not_undone() -> None:
    """Clean minus protected: 9 points are no effect, 10 are."""
    for clean, undoes in ((0.39, None), (0.4, True)):
        records = [r for r in arms(record("purified", "d.emn.a", "a", clean)) if r["cell"]["role"] != "clean"]
        weak = only([*records, *(record("clean", "train", None, clean, seed=seed) for seed in range(3))])
        found = findings.attack(weak, *weak.attacks[0], chance=0.5)
        assert found["undoes"] is undoes and found["recovery"]["value"] == pytest.approx(1)
