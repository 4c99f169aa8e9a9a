"""Words: the sentence for each outcome, and what was not tested."""

import pytest
from test_findings import arms, only, record

from ue_audit import contests, methods, verdict


@pytest.mark.parametrize(
    ("accuracy", "opening", "letter"),
    [(0.88, "broken by jcdp", "F"), (0.65, "undone for the most part by jcdp", "D"), (0.55, "weakened by jcdp", "C")],
)
def test_a_sentence_names_the_attack_the_effect_and_the_interval(accuracy: float, opening: str, letter: str) -> None:
    judged = verdict.judge(only(arms(record("purified", "d.emn.jcdp", "jcdp", accuracy))))
    assert judged["sentence"].startswith(f"d.emn is {opening}. It takes") and "60.0 points" in judged["sentence"]
    assert "[" in judged["sentence"] and judged["grade"] == letter


def test_survival_is_never_called_safe() -> None:
    judged = verdict.judge(only(arms(record("purified", "d.emn.jcdp", "jcdp", 0.31))))
    assert judged["grade"] == "A" and "no guarantee" in judged["sentence"] and "safe" not in judged["sentence"]


def test_no_effect_no_attacker_and_nothing_at_all_are_said() -> None:
    weak = [r for r in arms() if r["cell"]["role"] != "protected"]
    weak += [r | {"seed": s} for s in range(3) for r in [record("protected", "d.emn", None, 0.86)]]
    assert "never protected" in verdict.judge(only(weak))["sentence"]
    assert "no attacker was tried" in verdict.judge(only(arms()))["sentence"]
    own = {"learner": "dilution", "learner_kind": "countermeasure", "counters": "supervised", "needs": ["own"]}
    worse = record("protected", "d.emn", None, 0.5, **own)
    alone = record("clean", "train", None, 0.6, **own | {"learner": "own_only", "learner_kind": "reference"})
    beaten = [{"learner_method": "supervised"} | r for r in arms(worse, alone)]
    judged = verdict.judge(only(beaten))
    assert "with dilution it gave an attacker no more than their own images do alone" in judged["sentence"]
    assert judged["no_grade"] == ["no countermeasure gives more than the attacker's own images do alone"]
    assert verdict.judge(only(arms()))["no_grade"] == ["no countermeasure was measured"]
    nothing = verdict.judge(None)
    assert nothing["grade"] is None and nothing["no_grade"] and nothing["survival"] is None


def test_limits_name_what_was_not_tried() -> None:
    records = arms(record("purified", "d.emn.jcdp", "jcdp", 0.8))
    text = " ".join(verdict.limits(only(records), contests.groups(records), {"guide": "prior features"}))
    assert "Adaptive attackers" in text and "near ones were not searched" in text
    assert "prior features, not LPIPS" in text and "supervised" in text


def test_a_method_that_ran_under_another_name_was_tried() -> None:
    """`jcdp-paper`, a name of one's own, a chain and a set that was purified twice are all jcdp."""
    records = arms(record("purified", "d.emn.x", "own+jpeg", 0.8))
    tried = {"purifiers": [*methods.behind("purifier", "jcdp-paper+median"), "jpeg", "mylab.blur"]}
    limits = verdict.limits(only(records), contests.groups(records), tried)
    text = next(line for line in limits if line.startswith("Countermeasures: "))
    found = set(text.partition("ue-audit has: ")[2].rstrip(".").replace(" and ", ", ").split(", "))
    assert text.startswith("Countermeasures: own+jpeg tried")
    assert found == set(methods.names("purifier")) - {"jcdp", "median", "jpeg"}


def test_a_purifier_that_ran_with_several_seeds_is_named():
    once = arms(record("purified", "d.emn.jcdp", "jcdp", 0.7), record("purified", "d.emn.ddpm", "ddpm", 0.7))
    again = arms(record("purified", "d.emn.jcdp", "jcdp", 0.7), record("purified", "d.emn.jcdp.s1", "jcdp", 0.6))
    said = [" ".join(verdict.limits(only(r), contests.groups(r), {})) for r in (once, again)]
    assert "each ran with one seed" in said[0] and "jcdp ran with several seeds" in said[1]
