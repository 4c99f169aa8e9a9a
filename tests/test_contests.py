"""Who stands against whom: protected sets, their victims, and every countermeasure with its ceiling."""

import pytest
import synthetic_evaluation as synthetic
from test_findings import arms, only, record

from ue_audit import contests, findings, names


def test_variants_of_a_countermeasure_find_their_own_ceilings() -> None:
    contest = only(
        arms(
            record("purified", "d.emn.jcdp", "jcdp", 0.7),
            record("purified", "d.emn.jcdp-long", "jcdp", 0.75),
            record("ceiling", "d.jcdp", "jcdp", 0.8),
            record("ceiling", "d.jcdp-long", "jcdp", 0.77),
        )
    )
    pairs = {g.folder: ceiling.folder for g, ceiling in contest.attacks if ceiling}
    assert pairs == {"d.emn.jcdp": "d.jcdp", "d.emn.jcdp-long": "d.jcdp-long"}


def test_two_protected_sets_are_two_contests_and_the_weaker_one_decides() -> None:
    records = arms(
        record("noise", "d.lsp (noise of the same norm)", None, 0.9),
        record("protected", "d.lsp", None, 0.4),
        record("purified", "d.emn.jcdp", "jcdp", 0.5),
        record("purified", "somewhere", "jcdp", 0.8),
    )
    found = contests.gather(contests.groups(records), {"somewhere": "d.lsp"})
    assert [(c.protected.folder, [g.folder for g, _ in c.attacks]) for c in found] == [
        ("d.emn", ["d.emn.jcdp"]),
        ("d.lsp", ["somewhere"]),
    ]
    assert [c.noise and c.noise.folder for c in found] == [
        "d.emn (noise of the same norm)",
        "d.lsp (noise of the same norm)",
    ]
    head = contests.headline(found)
    assert head is not None and head.protected.folder == "d.lsp"


def test_an_attack_in_two_steps_belongs_to_the_set_it_began_with() -> None:
    twice = record("purified", "d.emn.jpeg.jcdp", "jcdp", 0.88)
    chained = {"d.emn.jpeg.jcdp": "d.emn.jpeg", "d.emn.jpeg": "d.emn", "d.emn": "train"}
    records = arms(twice, record("purified", "d.emn.jpeg", "jpeg", 0.35), record("protected", "d.lsp", None, 0.4))
    gathered = contests.gather(contests.groups(records), chained)
    found = {c.protected.folder: [g.folder for g, _ in c.attacks] for c in gathered}
    assert found == {"d.emn": ["d.emn.jpeg", "d.emn.jpeg.jcdp"], "d.lsp": []}
    in_a_circle = {"a": "b", "b": "a"}
    lost = [*records, *arms(record("purified", "a", "jcdp", 0.5))[len(arms()):]]
    assert all("a" not in [g.folder for g, _ in c.attacks] for c in contests.gather(contests.groups(lost), in_a_circle))


def test_a_set_that_never_protected_does_not_decide_where_another_did() -> None:
    records = arms(
        record("protected", "d.weak", None, 0.89),
        record("purified", "d.weak.jcdp", "jcdp", 0.9),
        record("purified", "d.emn.jcdp", "jcdp", 0.4),
    )
    head = contests.headline(contests.gather(contests.groups(records), {}))
    assert head is not None and head.protected.folder == "d.emn"


def test_without_clean_or_protected_there_is_no_contest() -> None:
    records = [r for r in arms() if r["cell"]["role"] != "clean"]
    assert contests.gather(contests.groups(records), {}) == []
    assert contests.headline([]) is None


def test_the_order_of_the_records_does_not_matter() -> None:
    records = synthetic.records()
    assert contests.groups(records) == contests.groups(list(reversed(records)))


def test_a_ceiling_made_with_the_same_settings_comes_before_one_of_the_same_ending() -> None:
    records = arms(
        record("purified", "d.emn.jcdp", "jcdp", 0.7),
        record("ceiling", "d.jcdp", "jcdp", 0.8),
        record("ceiling", "d.jcdp.eps16", "jcdp", 0.77),
    )
    how = {"d.emn.jcdp": {"t": 122}, "d.jcdp": {"t": 60}, "d.jcdp.eps16": {"t": 122}}
    (contest,) = contests.gather(contests.groups(records), {}, how)
    assert [ceiling.folder for _, ceiling in contest.attacks if ceiling] == ["d.jcdp.eps16"]


HARD = {"learner": "at-8", "learner_kind": "countermeasure", "learner_method": "adversarial", "counters": "supervised"}
OWN = {"learner": "dilution", "learner_kind": "countermeasure", "counters": "supervised", "needs": ["labels", "own"]}
ALONE = {"learner": "own_only", "learner_kind": "reference", "counters": "supervised", "needs": ["own"]}


def victims(records):
    plain = {"learner_kind": "victim", "learner_method": "supervised", "counters": None, "needs": []}
    return [plain | r for r in records]


def test_a_learner_that_hardens_the_victim_is_an_attack_with_its_own_ceiling() -> None:
    contest = only(
        victims(
            arms(
                record("purified", "d.emn.jcdp", "jcdp", 0.7),
                record("ceiling", "d.jcdp", "jcdp", 0.8),
                record("clean", "train", None, 0.6, **HARD),
                record("protected", "d.emn", None, 0.55, **HARD),
                record("purified", "d.emn.jcdp", "jcdp", 0.58, **HARD),
            )
        )
    )
    assert contest.protected.learner == "supervised" and contest.clean.arm().mean == pytest.approx(0.9)
    ceilings = {g.attack: ceiling and ceiling.arm().mean for g, ceiling in contest.attacks}
    assert ceilings == {"jcdp": pytest.approx(0.8), "at-8": pytest.approx(0.6), "jcdp + at-8": None}
    hard = next(pair for pair in contest.attacks if pair[0].attack == "at-8")
    found = findings.attack(contest, *hard, chance=0.5)
    assert found["recovery"]["value"] == pytest.approx((0.55 - 0.3) / (0.9 - 0.3))  # against the victim's C and V
    assert found["ceiling_recovery"]["value"] == pytest.approx((0.55 - 0.3) / (0.6 - 0.3))


def test_without_its_victim_a_hardened_learner_is_judged_by_itself() -> None:
    records = [r | HARD for r in arms(record("purified", "d.emn.jcdp", "jcdp", 0.7))]
    contest = only(records)
    assert contest.protected.learner == "at-8" and [g.countermeasure for g, _ in contest.attacks] == ["jcdp"]


def test_own_images_count_only_above_what_they_give_alone() -> None:
    own = [record("clean", "train", None, 0.9, **OWN), record("protected", "d.emn", None, 0.6, **OWN)]
    weak = record("purified", "d.emn.a", "a", 0.5)
    for alone, best in ((0.55, "dilution"), (0.65, "a")):
        contest = only(victims(arms(weak, *own, record("clean", "train", None, alone, **ALONE))))
        assert contest.alone is not None and contest.alone.learner == "own_only"
        assert contest.best is not None and contest.best[0].attack == best


def test_a_noise_control_belongs_to_the_set_that_it_is_named_after() -> None:
    """One set's name may begin with another's."""
    more = [record("noise", "d.emn 2" + names.NOISE, None, 0.5), record("protected", "d.emn 2", None, 0.4)]
    noise = {c.protected.folder: c.noise for c in contests.gather(contests.groups(arms(*more)[::-1]), {})}
    assert {name: g and g.folder for name, g in noise.items()} == {n: n + names.NOISE for n in ("d.emn", "d.emn 2")}


def test_two_victims_have_a_contest_each() -> None:
    second = [r | {"learner": "simclr", "learner_method": "simclr"} for r in victims(arms())]
    found = contests.gather(contests.groups([*victims(arms()), *second]), {})
    assert [(c.protected.learner, c.clean.learner, c.attacks) for c in found] == [
        ("simclr", "simclr", ()),
        ("supervised", "supervised", ()),
    ]
