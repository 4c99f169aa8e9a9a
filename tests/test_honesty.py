"""Honesty checks that fail when they should."""

from typing import Any

import pytest
from test_findings import arms, only, record

from ue_audit import contests, honesty

NOTES: dict[str, Any] = {
    "overlap": {"clean ∩ test": 0, "clean ∩ prior": 0, "test ∩ prior": 0},
    "budgets": {"d.emn": {"norm": "linf", "largest": 8, "limit": 8, "unit": "levels", "kept": True}},
    "near": {"clean ∩ test": {"count": 0, "of": 9, "examples": []}},
    "val_from": "their own folder",
}


def states(records: list[dict[str, Any]], **notes: Any) -> dict[str, str]:
    groups = contests.groups(records)
    found = honesty.checks(contests.headline(contests.gather(groups, {})), groups, NOTES | notes)
    return {c["name"]: c["state"] for c in found}


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
    found = honesty.checks(only(arms(seeds=1)), groups, {})
    order = [c["state"] for c in found]
    assert order == sorted(order, key=("fail", "warn", "unknown", "ok").index) and order[0] == "fail"


def near(**counts: int) -> dict[str, Any]:
    """Near duplicates among 200 images, by pair with an underscore for each sign."""
    pairs = {pair.replace("_", " ∩ "): n for pair, n in counts.items()}
    return {
        "near": {pair: {"count": n, "of": 200, "examples": [["a.png", None]] * bool(n)} for pair, n in pairs.items()}
    }


@pytest.mark.parametrize(("count", "state"), [(0, "ok"), (1, "ok"), (2, "warn"), (9, "warn"), (10, "fail")])
def test_near_duplicates_count_by_their_share(count: int, state: str) -> None:
    assert states(arms(), **near(clean_test=0, test_prior=count))["Near duplicates"] == state


def test_near_duplicates_are_named_the_largest_share_first() -> None:
    found = honesty.checks(None, contests.groups(arms()), NOTES | near(clean_test=3, test_prior=9))
    text = next(c["text"] for c in found if c["name"] == "Near duplicates")
    assert "9 of 200 between test and prior (4.5 %, such as a.png); 3 of 200 between clean and test" in text


def test_a_prior_whose_images_are_not_known_leaves_the_question_open() -> None:
    notes = {"prior": {"name": "p.ckpt"}, "overlap": {"clean ∩ test": 0}, **near(clean_test=0)}
    found = {c["name"]: c for c in honesty.checks(None, contests.groups(arms()), NOTES | notes)}
    assert "what the prior was trained on is not known" in found["Sets are disjoint"]["text"]
    assert [found[name]["state"] for name in ("Sets are disjoint", "Near duplicates")] == ["unknown", "unknown"]


def test_a_prior_that_goes_on_from_an_unknown_one_leaves_it_open_but_hides_no_leak() -> None:
    notes = {"prior": {"name": "p.ckpt", "training_data": "unknown"}, **near(clean_test=0, test_prior=0)}
    names = ("Sets are disjoint", "Near duplicates")
    assert [states(arms(), **notes)[name] for name in names] == ["unknown", "unknown"]
    leaks = notes | {"overlap": {"test ∩ prior": 3}}
    assert states(arms(), **leaks)["Sets are disjoint"] == "fail"


def test_a_prior_that_could_not_be_compared_is_named() -> None:
    notes = {"prior": None, "not_compared": {"overlap": ["lost.ckpt"], "near": ["lost.ckpt", "old.ckpt"]}}
    found = {c["name"]: c for c in honesty.checks(None, contests.groups(arms()), NOTES | notes)}
    exact, alike = found["Sets are disjoint"], found["Near duplicates"]
    assert [exact["state"], alike["state"]] == ["unknown", "unknown"]
    assert "what the prior lost.ckpt was trained on is not known" in exact["text"]
    assert "not all images of the prior lost.ckpt and the prior old.ckpt could be compared" in alike["text"]
    leak = notes | {"overlap": {"test ∩ prior": 3}}
    found = {c["name"]: c for c in honesty.checks(None, contests.groups(arms()), NOTES | leak)}
    assert found["Sets are disjoint"]["state"] == "fail" and "lost.ckpt" in found["Sets are disjoint"]["text"]
