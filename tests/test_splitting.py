"""Which image goes where: exact shares, copies together, small classes, and what stays when the set grows."""

import hashlib
import random
from collections import Counter

import pytest

from ue_audit.splitting import Unit, assign, groups

SHARES = {"test": 0.1, "val": 0.05, "raw": 0.2}


def units(classes: dict[str, int]) -> list[Unit]:
    return [
        Unit(name, hashlib.sha256(f"{name}{n}".encode()).hexdigest())
        for name, count in classes.items()
        for n in range(count)
    ]


def counts(found: list[Unit], parts: list[str]) -> dict[str, Counter[str]]:
    return {
        name: Counter(p for u, p in zip(found, parts, strict=True) if u.label == name)
        for name in {u.label for u in found}
    }


def test_shares_are_exact_in_every_class_where_they_are_whole() -> None:
    found = units({"a": 200, "b": 40})
    per = counts(found, assign(found, SHARES, 0))
    assert per["a"] == {"test": 20, "val": 10, "raw": 40, "train": 130}
    assert per["b"] == {"test": 4, "val": 2, "raw": 8, "train": 26}


def test_neither_order_nor_names_decide_but_the_seed_does() -> None:
    found = units({"a": 100, "b": 100})
    parts = dict(zip(found, assign(found, SHARES, 0), strict=True))
    mixed = random.Random(1).sample(found, len(found))
    assert dict(zip(mixed, assign(mixed, SHARES, 0), strict=True)) == parts
    other = assign(found, SHARES, 1)
    assert sum(parts[unit] != part for unit, part in zip(found, other, strict=True)) > 40


def test_a_set_that_grows_moves_few_of_its_images() -> None:
    found = units({"a": 1000})
    before = dict(zip(found[:900], assign(found[:900], SHARES, 0), strict=True))
    after = dict(zip(found, assign(found, SHARES, 0), strict=True))
    moved = sum(after[unit] != part for unit, part in before.items())
    assert moved < 50, f"{moved} of 900 moved; with parts drawn afresh half of them would"
    one = units({"a": 901})
    assert sum(p != before[u] for u, p in zip(one[:900], assign(one, SHARES, 0)[:900], strict=True)) <= 3


def test_a_class_does_not_see_the_others() -> None:
    alone, both = units({"a": 50}), units({"a": 50, "b": 33})
    assert assign(both, SHARES, 0)[:50] == assign(alone, SHARES, 0)


@pytest.mark.parametrize(
    ("images", "expected"), [(1, {"train": 1}), (2, {"train": 1, "test": 1}), (3, {"train": 1, "test": 1, "val": 1})]
)
def test_small_classes_serve_train_then_test_then_val(images: int, expected: dict[str, int]) -> None:
    found = units({"a": images})
    assert Counter(assign(found, {"test": 0.1, "val": 0.1, "raw": 0.0}, 0)) == expected


def test_many_small_classes_give_their_share_together() -> None:
    """400 classes of two: a fifth of 800 images is 160; binomial standard deviation sqrt(400 * .4 * .6) = 9.8."""
    found = units({f"c{n}": 2 for n in range(400)})
    assert abs(Counter(assign(found, {"raw": 0.2}, 0))["raw"] - 160) < 4 * 9.8


def test_equal_pixels_stay_together_across_classes() -> None:
    found = units({"a": 40, "b": 40})
    found[50] = Unit("b", found[3].pixels)
    found[60] = Unit("b", found[3].pixels)
    for seed in range(20):
        parts = assign(found, SHARES, seed)
        assert parts[3] == parts[50] == parts[60]


def test_pairs_that_are_alike_stay_together_and_chain() -> None:
    found = units({"a": 30})
    assert groups(found, [(5, 2), (5, 9), (20, 21)])[2] == [2, 5, 9]
    for seed in range(20):
        parts = assign(found, SHARES, seed, [(5, 2), (5, 9), (20, 21)])
        assert len({parts[row] for row in (2, 5, 9)}) == 1 and parts[20] == parts[21]


def test_a_burst_larger_than_a_part_goes_to_train() -> None:
    found = units({"a": 40})
    alike = [(0, row) for row in range(1, 12)]
    for seed in range(20):
        parts = assign(found, SHARES, seed, alike)
        assert set(parts[:12]) == {"train"} and Counter(parts) == {"test": 4, "val": 2, "raw": 8, "train": 26}


def test_where_nothing_fits_the_smallest_group_goes() -> None:
    found = units({"a": 12})
    alike = [(0, 1), (0, 2), (0, 3), (0, 4), (5, 6), (5, 7), (8, 9), (8, 10), (8, 11)]
    assert Counter(assign(found, {"test": 0.1}, 0, alike)) == {"test": 3, "train": 9}


def test_a_class_of_copies_is_train() -> None:
    assert assign([Unit("a", "same")] * 9, SHARES, 0) == ["train"] * 9
