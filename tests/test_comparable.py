"""What may stand beside a published figure: everything equal does, and every condition that is not equal is named."""

from dataclasses import replace
from typing import Any

import pytest

from ue_audit import comparable, config, published
from ue_audit.budget import Budget
from ue_audit.comparable import Images, Made, Subject

FOUND = published.load()
TEN = FOUND.datasets["cifar10"].classes
CIFAR = Images(TEN, 32, 50_000, 10_000)
VICTIM = {"backbone": "resnet18", "augmentation": "none", "epochs": 60}
EIGHT = Budget(norm="linf", limit=8 / 255)


def emn(**more: Any) -> Made:
    fields = config.load_preset("protect", "emn-paper")
    return Made(fields.pop("method"), fields | more, EIGHT)


PAPER = Subject(CIFAR, Made("supervised", VICTIM), 60, protection=emn())


def because(subject: Subject) -> tuple[str, ...]:
    match = comparable.compare(subject, FOUND)
    assert match.figures == ()
    return match.because


def test_all_equal_is_comparable_with_every_source_of_the_same() -> None:
    match = comparable.compare(PAPER, FOUND)
    found = {(f.at.source, round(100 * f.value, 2)) for f in match.figures}
    assert found == {("jcdp", 21.2), ("iss", 21.05), ("emn", 23.6)}
    assert match.because == ()
    clean = comparable.compare(replace(PAPER, protection=None), FOUND)
    assert {f.protection for f in clean.figures} == {"clean"} and {f.purifier for f in clean.figures} == {"none"}


def test_what_else_is_known_to_differ_is_said_beside_it() -> None:
    match = comparable.compare(PAPER, FOUND)
    said = {f.at.source: comparable.remarks(PAPER, f, FOUND) for f in match.figures}
    assert said["jcdp"] == ("its epochs are not published",)
    assert said["iss"] == ()
    assert said["emn"] == ("noise without its negative half", "60 epochs instead of 30", "one run")
    half = replace(PAPER, images=CIFAR._replace(test=5000))
    assert "5,000 test images instead of 10,000" in comparable.remarks(half, match.figures[0], FOUND)


def test_the_small_audit_of_a_laptop_is_told_what_differs_in_short() -> None:
    images = Images(TEN[:4], 32, 2000, 1000)
    small = Subject(images, Made("supervised", VICTIM | {"backbone": "small"}), 15, protection=emn(steps=2))
    assert because(small)[:2] == ("4 x 500 images instead of CIFAR-10's 50,000", "small instead of resnet18")
    assert "emn's steps 2 instead of 20" in because(small)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"images": CIFAR._replace(train=5000)}, "10 x 500 images instead of 50,000"),
        ({"images": CIFAR._replace(train=3681)}, "3,681 images instead of 50,000"),
        ({"images": CIFAR._replace(size=64)}, "images that cannot be taken for CIFAR-10"),
        ({"images": CIFAR._replace(size=None)}, "images that cannot be taken for CIFAR-10"),
        ({"images": CIFAR._replace(classes=(*TEN[:9], "lorry"))}, "images that cannot be taken for CIFAR-10"),
        ({"images": CIFAR._replace(lossy=True)}, "images that cannot be taken for CIFAR-10, being JPEG files"),
        ({"learner": Made("supervised", VICTIM | {"backbone": "vit"})}, "vit instead of resnet18"),
        ({"learner": Made("supervised", VICTIM | {"augmentation": "coin"})},
         "supervised's augmentation coin instead of none"),
        ({"protection": emn(surrogate="small")}, "emn's surrogate small instead of resnet18"),
        ({"protection": emn(alpha="1/255")}, "emn's alpha 1/255 instead of 0.8/255"),
        ({"protection": emn()._replace(budget=Budget(norm="linf", limit=4 / 255))}, "another budget than linf 8/255"),
        ({"protection": emn()._replace(ratio=0.8)}, "80 % of the images protected instead of all"),
        ({"known": False}, "how the images were made is not known: a manifest is missing"),
        ({"purifier": Made("median", {})}, "no figure of these methods together is known to ue-audit"),
    ],
)  # fmt: skip
def test_each_condition_that_does_not_hold_is_named(change: dict[str, Any], named: str) -> None:
    assert because(replace(PAPER, **change))[0] == named


def test_epochs_may_differ_by_a_factor_of_two_where_they_are_known() -> None:
    def sources(epochs: int) -> set[str]:
        return {f.at.source for f in comparable.compare(replace(PAPER, epochs=epochs), FOUND).figures}

    assert sources(30) == {"jcdp", "iss", "emn"}
    assert sources(29) == {"jcdp", "emn"}
    assert sources(121) == {"jcdp"}


def test_a_jpeg_of_another_quality_is_another_countermeasure() -> None:
    def purified(quality: int) -> Subject:
        return replace(PAPER, purifier=Made("jpeg", {"quality": quality, "subsampling": "4:2:0"}))

    [figure] = comparable.compare(purified(10), FOUND).figures
    assert (figure.at.source, figure.value) == ("iss", pytest.approx(0.815))
    assert because(purified(75)) == ("jpeg's quality 75 instead of 10",)
    ceiling = comparable.compare(replace(purified(10), protection=None), FOUND)
    assert [f.value for f in ceiling.figures] == [pytest.approx(0.8538)]


def test_a_set_of_another_tool_counts_by_its_name_and_it_is_said() -> None:
    imported = replace(PAPER, protection=Made("deepconfuse", None, None))
    [iss, ntga] = comparable.compare(imported, FOUND).figures
    assert iss.value == pytest.approx(0.163) and ntga.value == pytest.approx(0.411)
    assert "protected by another tool" in comparable.remarks(imported, iss, FOUND)
    assert because(replace(PAPER, protection=Made("deepconfuse", {}, None)))[0].startswith("no figure")


def test_a_figure_that_hangs_on_its_prior_is_never_comparable() -> None:
    purified = replace(PAPER, purifier=Made("jcdp", {"guidance": "joint"}))
    match = comparable.compare(purified, FOUND)
    assert {f.at.place for f in match.figures} == {"Table 1"}
    alone = replace(PAPER, purifier=Made("ddpm", {"t_purify": 20}))
    assert "a prior not known to be trained on" in because(alone)[0]


def test_a_set_is_recognised_by_names_and_size_and_common_names_by_numbers_too() -> None:
    def name(*args: Any) -> str | None:
        return comparable.recognise(Images(*args), FOUND.datasets)

    digits = tuple(str(n) for n in range(10))
    assert name(TEN, 32, 500, 100) == "cifar10"
    assert name(tuple(reversed([t.title() for t in TEN])), 32, 500, 100) == "cifar10"
    assert name(TEN[:9], 32, 45_000, 9000) is None and name((), 32, 1, 1) is None
    assert name(digits, 32, 73_257, 26_032) == "svhn"
    assert name(digits, 32, 60_000, 10_000) is None, "ten digits could be anything"
    pets = FOUND.datasets["pets"].classes
    assert name(tuple(p.replace("_", " ") for p in pets), 224, 3680, 3669, True) == "pets"
