"""Words: the sentence for each outcome, and honesty checks that fail when they should."""

from typing import Any

import pytest
from test_findings import arms, only, record

from ue_audit import contests, verdict

NOTES: dict[str, Any] = {
    "overlap": {"clean ∩ test": 0, "clean ∩ prior": 0, "test ∩ prior": 0},
    "budgets": {"d.emn": {"norm": "linf", "largest": 8, "limit": 8, "unit": "levels", "kept": True}},
    "val_from": "their own folder",
}


def states(records: list[dict[str, Any]], **notes: Any) -> dict[str, str]:
    groups = contests.groups(records)
    found = verdict.checks(contests.headline(contests.gather(groups, {})), groups, NOTES | notes)
    return {c["name"]: c["state"] for c in found}


@pytest.mark.parametrize(
    ("accuracy", "opening", "letter"),
    [(0.88, "Broken by jcdp", "F"), (0.65, "Undone for the most part by jcdp", "D"), (0.55, "Weakened by jcdp", "C")],
)
def test_a_sentence_names_the_attack_the_effect_and_the_interval(accuracy: float, opening: str, letter: str) -> None:
    judged = verdict.judge(only(arms(record("purified", "d.emn.jcdp", "jcdp", accuracy))))
    assert judged["sentence"].startswith(opening) and "60.0 points" in judged["sentence"]
    assert "[" in judged["sentence"] and judged["grade"] == letter


def test_survival_is_never_called_safe() -> None:
    judged = verdict.judge(only(arms(record("purified", "d.emn.jcdp", "jcdp", 0.31))))
    assert judged["grade"] == "A" and "no guarantee" in judged["sentence"] and "safe" not in judged["sentence"]


def test_no_effect_no_attacker_and_nothing_at_all_are_said() -> None:
    weak = [r for r in arms() if r["cell"]["role"] != "protected"]
    weak += [r | {"seed": s} for s in range(3) for r in [record("protected", "d.emn", None, 0.86)]]
    assert "never protected" in verdict.judge(only(weak))["sentence"]
    assert "no attacker was tried" in verdict.judge(only(arms()))["sentence"]
    nothing = verdict.judge(None)
    assert nothing["grade"] is None and nothing["no_grade"] and nothing["survival"] is None


def test_all_checks_hold_on_a_sound_audit() -> None:
    records = arms(record("purified", "d.emn.jcdp", "jcdp", 0.8), record("ceiling", "d.jcdp", "jcdp", 0.85))
    assert set(states(records).values()) == {"ok"}


@pytest.mark.parametrize(
    ("name", "state", "notes"),
    [
        ("Sets are disjoint", "fail", {"overlap": {"test ∩ prior": 3}}),
        ("Sets are disjoint", "unknown", {"overlap": None}),
        ("Sets are disjoint", "unknown", {"overlap": {"clean ∩ test": 0}}),
        ("Budget kept", "unknown", {"budgets": {}}),
        ("Budget kept", "fail", {"budgets": {"d.emn": NOTES["budgets"]["d.emn"] | {"largest": 9, "kept": False}}}),
        ("Whole set", "fail", {"partial": True}),
        ("Lineage", "fail", {"replaced": ["d.emn"]}),
    ],
)
def test_a_fact_that_does_not_hold_is_found(name: str, state: str, notes: dict[str, Any]) -> None:
    records = arms(record("purified", "d.emn.jcdp", "jcdp", 0.8), record("ceiling", "d.jcdp", "jcdp", 0.85))
    assert states(records, **notes)[name] == state


def test_a_cell_that_is_missing_or_damaged_is_found() -> None:
    attacked = arms(record("purified", "d.emn.jcdp", "jcdp", 0.8))
    assert states(attacked)["Ceilings"] == "unknown"
    assert states([r for r in attacked if r["cell"]["role"] != "noise"])["Noise control"] == "fail"
    assert states([r for r in attacked if r["seed"] < 2])["Seeds"] == "fail"
    noisy = [r | ({"last": 0.7} if r["cell"]["role"] == "noise" else {}) for r in attacked]
    assert states(noisy)["Noise control"] == "warn"
    early = [r | ({"chosen": 0.85} if r["cell"]["role"] == "protected" else {}) for r in attacked]
    assert states(early)["Early stopping"] == "warn"
    unequal = [r | ({"images": 50} if r["cell"]["role"] == "purified" else {}) for r in attacked]
    assert states(unequal)["Same recipe"] == "fail"


def test_the_worst_check_comes_first() -> None:
    groups = contests.groups(arms(seeds=1))
    found = verdict.checks(only(arms(seeds=1)), groups, {})
    order = [c["state"] for c in found]
    assert order == sorted(order, key=("fail", "warn", "unknown", "ok").index) and order[0] == "fail"


def test_limits_name_what_was_not_tried() -> None:
    records = arms(record("purified", "d.emn.jcdp", "jcdp", 0.8))
    text = " ".join(verdict.limits(only(records), contests.groups(records), {"guide": "prior features"}))
    assert "Adaptive attackers" in text and "near duplicates were not" in text
    assert "prior features, not LPIPS" in text and "supervised" in text


def test_a_purifier_that_ran_with_several_seeds_is_named():
    once = arms(record("purified", "d.emn.jcdp", "jcdp", 0.7), record("purified", "d.emn.ddpm", "ddpm", 0.7))
    again = arms(record("purified", "d.emn.jcdp", "jcdp", 0.7), record("purified", "d.emn.jcdp.s1", "jcdp", 0.6))
    said = [" ".join(verdict.limits(only(r), contests.groups(r), {})) for r in (once, again)]
    assert "each ran with one seed" in said[0] and "jcdp ran with several seeds" in said[1]
