"""What sets share: exact copies, near ones, and what a prior keeps to be compared by."""

import io
import zipfile
from importlib import resources

import numpy as np
import pytest
from PIL import Image

from ue_audit import lookalikes, overlaps
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
    assert overlaps.raw_set([]) is None and overlaps.raw_set([{}, {}]) is None
    assert overlaps.not_compared([("old", old), ("lost", {})]) == {"overlap": ["lost"], "near": ["lost", "old"]}


def test_a_prior_that_kept_nothing_hides_no_leak_of_another(clean: ImageData, test: ImageData) -> None:
    kept, old = overlaps.raw(clean), {"raw_pixels": overlaps.raw(pictures(range(500, 509), "x"))["raw_pixels"]}
    prior = overlaps.raw_set([old, {}, kept])
    assert prior is not None and prior.prints is not None and len(prior.prints) == len(prior.digests) == 49
    named = {"test": overlaps.of(test), "prior": prior}
    assert overlaps.exact(named) == {"test ∩ prior": 2}
    assert overlaps.near(named)["test ∩ prior"]["count"] == 3


def test_a_prior_with_a_past_is_not_compared_wholly(clean: ImageData) -> None:
    tuned = overlaps.raw(clean) | {"training_data": "unknown"}
    assert overlaps.not_compared([("b", tuned), ("a", {}), ("c", overlaps.raw(clean))])["near"] == ["a", "b"]


def photographs(count: int) -> ImageData:
    """Real images, of CIFAR-10."""
    packed = resources.files("ue_audit.demo").joinpath("images.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        names = sorted(name for name in archive.namelist() if "/raw/" in f"/{name}" and not name.endswith("/"))[:count]
        pixels = np.stack([np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB")) for name in names])
    return ImageData(pixels, names, (), None)


def encoded(image: Image.Image, kind: str, quality: int) -> Image.Image:
    out = io.BytesIO()
    image.save(out, kind, quality=quality)
    return Image.open(out).convert("RGB")


BY_TURNS = (
    lambda image: encoded(image, "JPEG", 50),
    lambda image: encoded(image, "WEBP", 50),
    lambda image: image.resize((16, 16), Image.Resampling.BILINEAR).resize((32, 32), Image.Resampling.BICUBIC),
    lambda image: encoded(image.resize((64, 64), Image.Resampling.BICUBIC), "JPEG", 75).resize((32, 32)),
    lambda image: image.crop((0, 0, 30, 30)).resize((32, 32), Image.Resampling.BILINEAR),
)


@pytest.mark.parametrize("kept", ["pixels", "by a prior"])
def test_planted_originals_and_altered_ones_are_all_found(kept: str) -> None:
    """5 % of the other set are originals, 5 % are resized, compressed or cut ones."""
    images = photographs(2000)
    ours, others = images.take(range(1000)), images.take(range(1000, 2000))
    before = overlaps.near({"test": overlaps.of(ours), "other": overlaps.of(others)})["test ∩ other"]
    assert before["count"] <= 6, before["examples"]  # CIFAR-10 has some
    planted = others.pixels.copy()
    planted[:50] = ours.pixels[:50]
    for row in range(50, 100):
        planted[row] = np.asarray(BY_TURNS[row % len(BY_TURNS)](Image.fromarray(ours.pixels[row])))
    leaky = others.with_pixels(planted)
    other = overlaps.of(leaky) if kept == "pixels" else overlaps.raw_set([overlaps.raw(leaky)])
    assert other is not None
    named = {"test": overlaps.of(ours), "other": other}
    assert overlaps.exact(named) == {"test ∩ other": 50}
    alone = {"test": overlaps.of(ours.take(range(50, 100))), "other": other}
    assert overlaps.near(alone)["test ∩ other"]["count"] == 50
    assert 50 <= overlaps.near(named)["test ∩ other"]["count"] <= 56


def test_blocks_decide_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images = photographs(120)
    left, right = images.take(range(60)), images.take(range(40, 120))
    whole = overlaps.near({"a": overlaps.of(left), "b": overlaps.of(right)})
    monkeypatch.setattr(lookalikes, "BLOCK", 7)
    assert overlaps.near({"a": overlaps.of(left), "b": overlaps.of(right)}) == whole


@pytest.mark.parametrize("text", ["AAAA", "?", "AA=="])
def test_fingerprints_that_are_none_are_refused(clean: ImageData, text: str) -> None:
    with pytest.raises(IntegrityError, match="fingerprints"):
        overlaps.raw_set([overlaps.raw(clean) | {"raw_prints": text}])
