"""Which training comes first, what a training will take, and what is said of those left out."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ue_audit import agenda
from ue_audit.trainings import Training

CELLS = [
    ("clean", "data"), ("noise", "emn (noise)"), ("protected", "emn"), ("ceiling", "jcdp"), ("purified", "emn.jcdp"),
]  # fmt: skip
VICTIM, HARDENED = ("supervised", "victim", 15), ("adversarial", "countermeasure", 120)


def training(cell, learner, seed):
    label, kind, passes = learner
    module = SimpleNamespace(passes=lambda config, images: passes)
    known = SimpleNamespace(label=label, kind=kind, chosen=SimpleNamespace(module=module, config=None))
    role, folder = cell
    key = f"{folder} {label} {seed}"
    return Training(SimpleNamespace(role=role, folder=folder, data=[0]), known, 100 - seed, key, key)


def planned(seeds=3):
    """As trainings.enumerate_all has them: seed by seed, learner by learner."""
    taken = {VICTIM: CELLS, HARDENED: [cell for cell in CELLS if cell[0] in ("clean", "protected")]}
    return [training(cell, learner, seed) for seed in range(seeds) for learner in taken for cell in taken[learner]]


def shown(t):
    return t.cell.role, t.learner.label, 100 - t.seed


def test_what_every_verdict_stands_on_comes_first():
    assert [shown(t) for t in agenda.order(planned(2))] == [
        ("clean", "supervised", 0), ("protected", "supervised", 0), ("noise", "supervised", 0),
        ("purified", "supervised", 0),
        ("ceiling", "supervised", 0),
        ("clean", "supervised", 1), ("protected", "supervised", 1), ("noise", "supervised", 1),
        ("purified", "supervised", 1), ("ceiling", "supervised", 1),
        ("protected", "adversarial", 0), ("clean", "adversarial", 0),
        ("protected", "adversarial", 1), ("clean", "adversarial", 1),
    ]  # fmt: skip


def test_the_order_loses_nothing_and_is_its_own():
    found = agenda.order(planned())
    assert sorted(t.key for t in found) == sorted(t.key for t in planned())
    assert agenda.order(found) == found


def test_expected_seconds():
    """The mean of the learner's own; else in proportion to passes: 15 took 10 s, so 120 take 80 s; else nothing."""
    first, second, *_ = planned()
    hardened = next(t for t in planned() if t.learner.label == "adversarial")
    assert agenda.expected(first, []) == 0
    assert agenda.expected(second, [(first, 8.0), (first, 12.0)]) == 10
    assert agenda.expected(hardened, [(first, 8.0), (first, 12.0)]) == pytest.approx(80)
    assert agenda.expected(first, [(hardened, 80.0)]) == pytest.approx(10)
    assert agenda.expected(hardened, [(first, 10.0), (hardened, 50.0)]) == 50


def test_nothing_is_left_out_where_all_is_there():
    assert agenda.left_out(planned(), [t.key for t in planned()], 60.0) == {}


def test_what_was_left_out_is_named():
    kept = [t.key for t in agenda.order(planned())[:6]]  # one seed of the victim, and clean with a second
    found = agenda.left_out(planned(), kept, 5400.0)
    assert (found["trainings"], found["of"]) == (21 - 6, 21)
    assert {"role": "clean", "folder": "data", "learner": "supervised", "trained": 2, "of": 3} in found["cells"]
    assert agenda.words(found) == (
        "15 of 21 trainings left out: --budget gave them 1 h 30 min; not trained on at all: data with adversarial, emn "
        "with adversarial; with fewer seeds: data with supervised (2 of 3), emn (noise) with supervised (1 of 3), emn "
        "with supervised (1 of 3), jcdp with supervised (1 of 3), emn.jcdp with supervised (1 of 3)"
    )


def test_many_names_are_cut_short():
    cells = [{"role": "purified", "folder": f"s{n}", "learner": "a", "trained": 0, "of": 1} for n in range(20)]
    text = agenda.words({"budget": 1.0, "trainings": 20, "of": 40, "cells": cells})
    assert "s11 with a, and 8 more" in text and "s12" not in text


@given(st.sets(st.integers(0, 20)))
def test_counts_add_up(rows):
    kept = {planned()[row].key for row in rows}
    found = agenda.left_out(planned(), kept, 1.0)
    missing = sum(cell["of"] - cell["trained"] for cell in found["cells"]) if found else 0
    assert missing == 21 - len(rows) == (found["trainings"] if found else 0)
