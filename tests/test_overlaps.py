"""What sets share: exact copies, near ones, and what a prior keeps to be compared by."""

import numpy as np
import pytest

from ue_audit import overlaps
from ue_audit.errors import IntegrityError
from ue_audit.imagedata import ImageData


def pictures(seeds: range, prefix: str) -> ImageData:
    """Blobs, each of its own seed."""
    dice = [np.random.default_rng(seed).integers(0, 256, (6, 6, 3)) for seed in seeds]
    pixels = np.stack([np.kron(small, np.ones((4, 4, 1))).astype(np.uint8) for small in dice])
    return ImageData(pixels, [f"{prefix}{seed}.png" for seed in seeds], ("a",), [0] * len(pixels))


@pytest.fixture
def clean() -> ImageData:
    return pictures(range(40), "clean")


@pytest.fixture
def test() -> ImageData:
    """20 images: two are copies of clean ones, three are clean ones a little brighter."""
    data = pictures(range(100, 120), "test")
    known = pictures(range(40), "clean").pixels
    data.pixels[:2] = known[5:7]
    data.pixels[2:5] = np.minimum(known[7:10].astype(int) * 9 // 10 + 20, 255)
    return data


def test_exact_and_near_copies_are_counted_apart(clean: ImageData, test: ImageData) -> None:
    named = {
        "clean": overlaps.of(clean),
        "test": overlaps.of(test),
        "own": overlaps.of(pictures(range(300, 309), "own")),
    }
    assert overlaps.exact(named) == {"clean ∩ test": 2, "clean ∩ own": 0, "test ∩ own": 0}
    found = overlaps.near(named)
    assert [one["count"] for one in found.values()] == [3, 0, 0]
    assert found["clean ∩ test"]["of"] == 20
    assert found["clean ∩ test"]["examples"][0] == ["test102.png", "clean7.png"]


def test_the_images_of_a_prior_are_compared_when_they_are_gone(clean: ImageData, test: ImageData) -> None:
    kept = overlaps.raw(clean)
    assert kept == overlaps.raw(clean.take(list(reversed(range(40)))))  # in whatever order
    prior = overlaps.raw_set([kept])
    assert prior is not None and len(prior.digests) == 40
    for named in ({"test": overlaps.of(test), "prior": prior}, {"prior": prior, "test": overlaps.of(test)}):
        assert list(overlaps.exact(named).values()) == [2]
        assert [one["count"] for one in overlaps.near(named).values()] == [3]
    many = {"test": overlaps.of(pictures(range(7, 10), "x")), "prior": prior}
    assert [one["count"] for one in overlaps.near(many).values()] == [0]  # all three are exact


def test_copies_within_a_prior_count_once(clean: ImageData) -> None:
    twice = overlaps.raw(clean.take([0, 1, 1, 0]))
    assert len(twice["raw_pixels"]) == 2
    both = overlaps.raw_set([twice, overlaps.raw(clean)])
    assert both is not None and both.prints is not None and len(both.digests) == len(both.prints) == 42


def test_a_prior_that_kept_less_is_compared_by_less(clean: ImageData, test: ImageData) -> None:
    old = {"raw_pixels": overlaps.raw(clean)["raw_pixels"]}
    prior = overlaps.raw_set([old])
    assert prior is not None and prior.prints is None
    assert overlaps.near({"test": overlaps.of(test), "prior": prior}) == {}
    assert overlaps.raw_set([]) is None and overlaps.raw_set([old, {}]) is None


@pytest.mark.parametrize("text", ["AAAA", "?", "AA=="])
def test_fingerprints_that_are_none_are_refused(clean: ImageData, text: str) -> None:
    with pytest.raises(IntegrityError, match="fingerprints"):
        overlaps.raw_set([overlaps.raw(clean) | {"raw_prints": text}])
