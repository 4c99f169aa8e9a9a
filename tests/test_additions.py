"""Seeds that are added: where a verdict is open, to which cells, the same in whatever order; and what that costs."""

import itertools
import math
import os
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from test_findings import record
from test_scores import SPREADS, TRUTHS

from ue_audit import additions, contests, scores, thresholds
from ue_audit.additions import Asking
from ue_audit.trainings import Training

NOISE = "d.emn (noise of the same norm)"
SWING = (0, 0.01, -0.01, 0.012, -0.012)  # of the seeds about their mean


def cell(role: str, folder: str, countermeasure: str | None, mean: float, seeds: int = 3, **more: Any) -> list[Any]:
    """The trainings of a cell; test images without number, so that the seeds alone scatter."""
    more = {"n_test": 10**8, "val_last": mean} | more
    return [
        record(role, folder, countermeasure, mean + swing, **more, seed=seed, key=f"{folder} {seed}")
        for seed, swing in enumerate(SWING[:seeds])
    ]


def contest(purified: float = 0.7, protected: float = 0.3, noise: bool = True, seeds: int = 3) -> contests.Contest:
    records = [
        *cell("clean", "train", None, 0.9, seeds),
        *(cell("noise", NOISE, None, 0.9, seeds) if noise else []),
        *cell("protected", "d.emn", None, protected, seeds),
        *cell("purified", "d.emn.jcdp", "jcdp", purified, seeds),
    ]
    (found,) = contests.gather(contests.groups(records), {})
    return found


def held(found: contests.Contest) -> list[tuple[str, tuple[float, ...]]]:
    return [(look.of, look.holds) for look in additions.looks(found)]


def test_a_verdict_is_open_where_an_interval_holds_a_boundary() -> None:
    """Survival of 1 - (P - .3)/.6, give or take .05: .2 and .4 at P = .78 and .66, none at .72 (.3) or .88 (.03)."""
    assert held(contest(0.78)) == [("survival", (0.2,))]
    assert held(contest(0.66)) == [("survival", (0.4,))]
    assert held(contest(0.72)) == held(contest(0.88)) == []


def test_an_effect_about_the_least_one_is_open_and_what_never_protected_is_not() -> None:
    looks = list(additions.looks(contest(0.85, protected=0.79)))
    assert [look.of for look in looks] == ["effect", "survival"] and looks[0].holds == (thresholds.MIN_EFFECT,)
    assert looks[0].rows == (("clean", "train", "supervised"), ("protected", "d.emn", "supervised"))
    assert held(contest(0.88, protected=0.87)) == []


def test_where_there_is_no_grade_in_any_case_nothing_is_open() -> None:
    assert held(contest(0.78, noise=False)) == held(contest(0.78, seeds=2)) == []


def test_an_interval_without_bounds_is_open_at_every_boundary() -> None:
    records = [
        record(role, folder, cm, last, seed=seed, n_test=1000)
        for role, folder, cm, found in (
            ("clean", "train", None, (0.9, 0.5, 0.7)),
            ("noise", NOISE, None, (0.9, 0.5, 0.7)),
            ("protected", "d.emn", None, (0.3, 0.7, 0.5)),
            ("purified", "d.emn.jcdp", "jcdp", (0.6, 0.6, 0.7)),
        )
        for seed, last in enumerate(found)
    ]
    (found,) = contests.gather(contests.groups(records), {})
    left = found.survival()
    assert left is not None and left.low is None
    assert ("survival", (0.2, 0.4, 0.6, 0.8)) in held(found)


def test_cells_that_have_more_seeds_already_wait_for_the_others() -> None:
    records = [
        *cell("clean", "train", None, 0.9, seeds=5),
        *cell("noise", NOISE, None, 0.9),
        *cell("protected", "d.emn", None, 0.3, seeds=4),
        *cell("purified", "d.emn.jcdp", "jcdp", 0.78, seeds=4),
    ]
    (found,) = contests.gather(contests.groups(records), {})
    (look,) = additions.looks(found)
    assert look.seeds == 4 and [row[1] for row in look.rows] == ["d.emn", "d.emn.jcdp"]


# -- an evaluation that goes on ----------------------------------------------------------------------------

MEANS = {
    ("clean", "train", None): 0.9,
    ("noise", NOISE, None): 0.9,
    ("noise", "d.uc (noise of the same norm)", None): 0.9,
    ("protected", "d.emn", None): 0.3,
    ("protected", "d.uc", None): 0.3,
    ("ceiling", "d.jcdp", "jcdp"): 0.88,
    ("purified", "d.emn.jcdp", "jcdp"): 0.77,  # at the boundary
    ("purified", "d.emn.jpeg", "jpeg"): 0.5,
    ("purified", "d.uc.jcdp", "jcdp"): 0.72,  # between two
    ("purified", "d.uc.jpeg", "jpeg"): 0.4,
}


def possible(most: int) -> list[Training]:
    learner = SimpleNamespace(label="supervised")
    cells = [SimpleNamespace(role=role, folder=folder) for role, folder, _ in MEANS]
    return [Training(c, learner, seed, "", f"{c.folder} {seed}") for seed in range(most) for c in cells]  # type: ignore[arg-type]


RECORDS = {r["key"]: [r] for name, mean in MEANS.items() for r in cell(*name, mean, seeds=5)}


def followed(asking: Asking, draw: Any = None) -> dict[str, Any]:
    """Train what is asked for, one after the other in any order, until nothing is."""
    done: dict[str, Any] = {}
    while todo := [t.key for t in asking.asked(done) if t.key not in done]:
        key = todo[0] if draw is None else draw(st.sampled_from(todo))
        done[key] = RECORDS[key]
    return done


def counted(done: dict[str, Any]) -> dict[str, int]:
    names = [key.rpartition(" ")[0] for key in done]
    return {name: names.count(name) for name in names}


def test_only_what_an_open_interval_rests_on_gets_more() -> None:
    """`emn` is open with three, four and five seeds; `uc` never is, and shares its clean images."""
    done = followed(Asking(possible(5), 3, {}))
    more = {name: n for name, n in counted(done).items() if n > 3}
    assert more == {"train": 5, "d.emn": 5, "d.emn.jcdp": 5}
    assert set(counted(done).values()) == {3, 5}


def test_without_a_larger_number_nothing_is_added() -> None:
    asking = Asking(possible(3), 3, {})
    assert len(followed(asking)) == 3 * len(MEANS) and asking.looks(RECORDS) == []


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_neither_order_nor_sittings_decide(data: Any) -> None:
    asking = Asking(possible(5), 3, {})
    assert followed(asking, data.draw).keys() == followed(asking).keys()


def test_records_that_nobody_asked_for_decide_nothing() -> None:
    """As when another evaluation is at hand that has five seeds of everything."""
    asking = Asking(possible(5), 3, {})
    planned = [t.key for t in possible(3)]
    assert [t.key for t in asking.asked({})] == planned
    assert {t.key for t in asking.asked(RECORDS)} == followed(asking).keys()


def test_a_countermeasure_that_is_chosen_later_catches_up() -> None:
    """The fourth seed of `jcdp` fails on the validation images; `jpeg` is chosen then, and gets a fourth, too."""
    worse = {key: [r | {"val_last": 0.0}] for key, (r,) in RECORDS.items() if key == "d.emn.jcdp 3"}
    near = {
        f"d.emn.jpeg {r['seed']}": [r] for r in cell("purified", "d.emn.jpeg", "jpeg", 0.775, seeds=5, val_last=0.7)
    }
    found, asking = RECORDS | worse | near, Asking(possible(4), 3, {})
    assert counted({t.key: 0 for t in asking.asked(found)})["d.emn.jpeg"] == 4
    assert [(look.seeds, [row[1] for row in look.rows]) for look in asking.looks(found)] == [
        (3, ["train", "d.emn", "d.emn.jcdp"]),
        (3, ["d.emn.jpeg"]),
    ]


def test_what_was_added_is_said_with_its_reason() -> None:
    asking = Asking(possible(4), 3, {})
    found = additions.noted(asking, followed(asking), 4)
    (row,) = found["sets"]
    assert (found["from"], found["to"], row["protected"], row["added"], row["seeds"]) == (3, 4, "d.emn", 1, 4)
    assert row["open"] and row["looks"][0]["holds"] == [0.2]
    low, high = (f"{row['looks'][0][key]:.2f}" for key in ("low", "high"))
    assert row["sentence"] == (
        f"1 for d.emn, whose survival [{low}, {high}] at 99 % held the grade boundary 0.20; with 4 it is still so"
    )
    assert f"Seeds added: {row['sentence']}." in additions.words(found) and "in simulation" in additions.words(found)


def test_before_all_planned_ones_are_there_nothing_is_said() -> None:
    done = {t.key: RECORDS[t.key] for t in possible(3)[:-1]}
    asking = Asking(possible(5), 3, {})
    assert additions.noted(asking, done, 5) == {}
    assert len(asking.asked(done)) == 3 * len(MEANS)


def test_that_nothing_had_to_be_added_is_said() -> None:
    asking = Asking(possible(5), 3, {})
    sure = RECORDS | {r["key"]: [r] for r in cell("purified", "d.emn.jcdp", "jcdp", 0.72)}
    found = additions.noted(asking, {t.key: sure[t.key] for t in possible(3)}, 5)
    assert found == {"from": 3, "to": 5, "sets": []} and "none was added" in additions.words(found)


# -- what looking costs, by simulation ---------------------------------------------------------------------

BOUNDS = [bound for _, bound in thresholds.GRADES if math.isfinite(bound)]
AT_A_BOUNDARY = [(v + (1 - b) * (c - v), v, c) for b in BOUNDS for v, c in ((0.25, 0.9), (0.6, 0.85))]


def looked(
    m: int, spreads: tuple[float, ...], truth: tuple[float, ...], draws: int, planned: int = 3, most: int = 5
) -> tuple[float, float]:
    """The share of simulated audits whose last interval holds the true recovery, and the mean number of seeds.

    As in test_scores, with the test images shared by all seeds of an arm; one more seed of every arm while survival's
    interval at LEVEL holds a boundary.
    """
    random = np.random.default_rng((m, round(1e4 * sum(spreads)), round(1e4 * sum(truth))))
    measured = [
        mu + random.normal(0, s, (draws, most)) + math.sqrt(mu * (1 - mu) / m) * random.normal(0, 1, (draws, 1))
        for mu, s in zip(truth, spreads, strict=True)
    ]
    true = (truth[0] - truth[1]) / (truth[2] - truth[1])
    going, covered, seeds = np.full(draws, True), np.zeros(draws, bool), np.zeros(draws, int)
    for n in range(planned, most + 1):
        means = [arm[:, :n].mean(1) for arm in measured]
        between = [arm[:, :n].var(1, ddof=1) / n for arm in measured]
        shares = [(mean * m + 2) / (m + 4) for mean in means]
        sampling = [share * (1 - share) / m for share in shares]
        low, high = scores.fieller(means, between, sampling, (n, n, n))
        covered = np.where(going, (low <= true) & (true <= high), covered)
        low, high = scores.fieller(means, between, sampling, (n, n, n), additions.LEVEL)
        seeds = np.where(going, n, seeds)
        going &= np.any([(1 - high < b) & (b <= 1 - low) for b in BOUNDS], axis=0)
    return float(covered.mean()), float(seeds.mean())


def test_intervals_that_were_looked_at_cover_as_much_as_is_said() -> None:
    slow = os.environ.get("UE_AUDIT_SLOW") == "1"
    draws, sizes = (100_000, (300, 500, 1000, 2000, 4000, 10_000)) if slow else (2000, (500, 2000))
    cases = list(itertools.product(sizes, SPREADS, [*TRUTHS, *AT_A_BOUNDARY]))
    found = {case: looked(*case, draws) for case in cases}
    worst = min(found, key=lambda case: found[case][0])
    mean = np.mean([covered for covered, _ in found.values()])
    print(f"{len(found)} settings cover {found[worst][0]:.3f} {worst} at the worst, {mean:.3f} on average")
    assert found[worst][0] >= additions.COVERS
