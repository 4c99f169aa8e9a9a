"""The price list: who is on the frontier, and the sentence an owner reads off. Attackers by hand."""

from typing import Any

import pytest
from priced import attacker, jcdp, near

from ue_audit import prices


def on_frontier(*attackers: Any) -> dict[str, bool | None]:
    return dict(zip((a["countermeasure"] for a in attackers), prices.frontier(attackers), strict=True))


# -- the frontier ------------------------------------------------------------------------------------------


def test_who_recovers_less_for_more_is_off_the_frontier() -> None:
    found = on_frontier(attacker("a", 1, 0.3), attacker("b", 10, 0.6), attacker("c", 20, 0.5), attacker("d", 30, 0.9))
    assert found == {"a": True, "b": True, "c": False, "d": True}


def test_equals_stand_together_and_a_tie_in_one_part_decides_by_the_other() -> None:
    assert on_frontier(attacker("a", 5, 0.5), attacker("b", 5, 0.5)) == {"a": True, "b": True}
    assert on_frontier(attacker("a", 5, 0.5), attacker("b", 5, 0.6)) == {"a": False, "b": True}
    assert on_frontier(attacker("a", 5, 0.5), attacker("b", 6, 0.5)) == {"a": True, "b": False}


@pytest.mark.parametrize("need", [{"raw_images": 10}, {"own_images": 10}, {"weights": ["w"]}])
def test_time_does_not_pay_for_images_or_weights(need: dict[str, Any]) -> None:
    quick, slow = attacker("quick", 1, 0.9, **need), attacker("slow", 100, 0.5)
    assert on_frontier(quick, slow) == {"quick": True, "slow": True}
    assert on_frontier(quick, attacker("slow", 100, 0.5, **need)) == {"quick": True, "slow": False}


def test_the_images_of_a_start_are_paid_for_too() -> None:
    tuned = jcdp(start={"name": "big", "images": 50_000, "seconds": None})
    assert prices.price(tuned)[1] == 52_000
    unknown = jcdp(start={"name": "big", "images": None, "seconds": None})
    assert on_frontier(unknown, attacker("a", 540, 0.95)) == {"jcdp": False, "a": True}


def test_what_was_not_measured_is_on_no_frontier_and_takes_nobody_off_it() -> None:
    found = on_frontier(attacker("untimed", None, 0.99), attacker("a", 9, 0.5), attacker("unknown", 1, None))
    assert found == {"untimed": None, "a": True, "unknown": None}


def test_what_gives_nothing_back_or_does_not_count_is_off_it() -> None:
    idle, own = attacker("idle", 0, 0.0), attacker("own", 1, 0.9, counts=False)
    faint, unsure = attacker("faint", 1, 0.04), attacker("unsure", 2, 0.3, (-0.1, 0.7))
    found = on_frontier(idle, own, faint, unsure, attacker("a", 9, 0.5))
    assert found == {"idle": False, "own": False, "faint": False, "unsure": False, "a": True}


def test_a_listing_is_sorted_by_price_and_marked() -> None:
    found = prices.listing("d.emn", "supervised", 0.5, [jcdp(), attacker("untimed", None, 0.2), attacker("a", 1, 0.97)])
    assert [(a["countermeasure"], a["frontier"]) for a in found["attackers"]] == [
        ("a", True),
        ("jcdp", False),
        ("untimed", None),
    ]
    assert (found["protected"], found["victim"]) == ("d.emn", "supervised")


# -- the sentence ------------------------------------------------------------------------------------------


def says(*attackers: Any, effect: float = 0.5) -> str:
    return prices.sentence(attackers, effect)


def test_a_cheap_filter_that_is_enough() -> None:
    grey = attacker("grayscale", 0.4, 0.97, near(0.97))
    assert says(grey, jcdp()) == (
        "grayscale, with no images of its own and under a second, recovers 97 % [92, 102]. Nothing tried recovers more."
    )


def test_only_with_raw_images_and_minutes() -> None:
    assert says(jcdp(), attacker("jpeg", 2, 0.04, near(0.04))) == (
        "It takes more than the published images: jcdp, with 2,000 raw images and 9 min 0 s, recovers 95 % [90, 100]. "
        "Without images or weights the most is 4 % [−1, 9], by jpeg."
    )


def test_who_recovers_more_is_named_with_what_it_takes() -> None:
    jpeg = attacker("jpeg", 2, 0.6, near(0.6))
    assert says(jpeg, jcdp()).endswith(
        "Clearly more, 95 % [90, 100], is recovered by jcdp, with 2,000 raw images and 9 min 0 s."
    )


def test_intervals_that_overlap_are_said_to() -> None:
    jpeg = attacker("jpeg", 2, 0.9, (0.8, 1.0))
    assert says(jpeg, jcdp()).endswith(
        "is recovered by jcdp, with 2,000 raw images and 9 min 0 s; the intervals overlap."
    )


def test_of_equals_the_cheapest_is_named_and_not_the_first_above_half() -> None:
    weak, strong = attacker("weak", 1, 0.55, near(0.55)), attacker("strong", 90, 0.95, near(0.95))
    as_good = attacker("good", 9, 0.93, near(0.93))
    assert says(weak, strong, as_good).startswith("good, with no images of its own and 9.0 s, recovers 93 % [88, 98].")


def test_without_intervals_the_strongest_is_named_and_nothing_is_told_apart() -> None:
    assert says(attacker("a", 1, 0.8), attacker("b", 50, 0.82)).startswith("b, with no images of its own and 50 s")
    assert says(attacker("a", 1, 0.8), jcdp(bounds=(None, None))).endswith("there are no intervals to tell them apart.")


def test_under_half_and_nothing_at_all() -> None:
    little = says(attacker("a", 1, 0.3, near(0.3)))
    assert little.startswith("Nothing that was tried recovers half: a, with no images of its own and 1.0 s, recovers")
    assert little.endswith("recovers 30 % [25, 35], the most.")
    nothing = says(attacker("a", 1, 0.02, near(0.02)), jcdp(recovery=-0.1, bounds=near(-0.1)))
    assert nothing == "Nothing that was tried recovers anything: the most is 2 % [−3, 7], by a."
    assert says(attacker("a", 1, 0.03)) == "Nothing that was tried recovers anything: the most is 3 %, by a."


def test_nothing_to_recover_and_nobody_to_try() -> None:
    assert "less than 10 points" in says(jcdp(), effect=0.06)
    assert says() == "No attacker was measured."
    own = "Nothing that was tried gives more than the attacker's own images do alone."
    assert says(attacker("a", 1, 0.9, counts=False)) == own


def test_what_is_not_known_is_said() -> None:
    assert "jcdp, with an unknown number of raw images and an unknown time, recovers" in says(
        jcdp(seconds=None, raw_images=None, overlap="not known")
    )
    assert "2,000 raw images (some of them the owner's) and 9 min" in says(jcdp(overlap="shared"))
    assert "pretrained weights (clip.pt)" in says(attacker("probe", 1, 0.9, weights=["clip.pt"]))
    assert "500 clean labelled images" in says(attacker("dfr", 1, 0.9, own_images=500, overlap="disjoint"))
    tuned = jcdp(start={"name": "big", "images": None, "seconds": None})
    assert "a prior to start from (an unknown number of images)" in says(tuned)


# -- the cheapest successful attack ------------------------------------------------------------------------


def test_the_cheapest_successful_attack_in_words() -> None:
    weak, grey, slow = attacker("weak", 1, 0.4), attacker("grey", 20, 0.6), attacker("slow", 30, 0.9)
    assert prices.cheapest_in_words([weak, slow, grey]) == (
        "grey: gives back 60 %, with no images of its own, in 20 s beside the training on cpu"
    )
    assert prices.cheapest_in_words([weak, attacker("untimed", None, 0.9)]) is None


def test_where_there_is_no_effect_nobody_is_on_the_frontier() -> None:
    """A recovery of 9 points and of 10 are worlds apart: below, there was nothing to give back."""
    marks = {}
    for effect in (0.0999, 0.1):
        listed = prices.listing("d.emn", "supervised", effect, [attacker("grey", 1, 0.97, near(0.97))])
        marks[effect] = [row["frontier"] for row in listed["attackers"]]
    assert marks == {0.0999: [False], 0.1: [True]}


def test_the_attack_that_the_verdict_goes_by_is_named_where_another_is_cheaper_or_better() -> None:
    grey = attacker("grayscale", 0.1, 0.58, near(0.58, 0.2))
    jpeg = attacker("jpeg", 0.5, 0.55, near(0.55, 0.1), chosen=True)
    ending = " The verdict goes by jpeg, chosen on validation images: 55 % [45, 65]."
    assert says(grey, jpeg).endswith(ending)
    assert says(attacker("median+jpeg", 0.1, 0.58, near(0.58, 0.2)), jpeg).endswith(ending)
    assert says(attacker("grayscale + jpeg", 0.1, 0.58, near(0.58, 0.2)), jpeg).endswith(ending)
    for named in ([grey | {"chosen": True}, jpeg | {"chosen": False}], [attacker("slow", 9, 0.5, near(0.5)), jpeg]):
        assert "The verdict goes by" not in says(*named)
    assert "The verdict goes by" not in says(jpeg, effect=0.06)
