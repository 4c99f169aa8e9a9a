"""Separability against chance and against the primal; frequencies against single cosines."""

import math

import numpy as np
import pytest

from ue_audit import traits

RNG = np.random.default_rng


def labelled(each: int, classes: int) -> np.ndarray:
    return np.arange(each * classes) % classes


def white(count: int, side: int = 32, seed: int = 0) -> np.ndarray:
    return RNG(seed).integers(-8, 9, (count, side, side, 3)).astype(np.int16)


def patches(labels: np.ndarray, side: int = 32, seed: int = 0) -> np.ndarray:
    """As LSP: one row of 8 x 8 patches per class, and noise of the same form around it."""
    rng = RNG(seed)
    centres = rng.standard_normal((labels.max() + 1, side // 8, side // 8, 3))
    small = centres[labels] + 0.5 * rng.standard_normal((len(labels), *centres.shape[1:]))
    return np.rint(6 * small.repeat(8, 1).repeat(8, 2)).astype(np.int16)


# -- separability ------------------------------------------------------------------------------------------


def test_patches_of_a_class_are_separable() -> None:
    labels = labelled(50, 4)
    assert traits.separability(patches(labels), labels) == 1.0


@pytest.mark.parametrize("seed", range(3))
def test_noise_is_at_chance(seed: int) -> None:
    """400 held-out guesses at p = 1/4 have a standard deviation of sqrt(p (1 - p) / 400); 4 of them: 1 in 16,000."""
    labels = labelled(200, 4)
    found = traits.separability(white(800, side=8, seed=seed), labels)
    assert found is not None and abs(found - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 400)


def test_what_is_learnt_by_heart_does_not_count() -> None:
    """Far more dimensions than images: every training label can be had, and the held-out ones stay at chance."""
    labels = labelled(20, 2)
    found = traits.separability(white(40, side=32), labels)
    assert found is not None and abs(found - 0.5) < 4 * math.sqrt(0.25 / 20)


def test_it_is_the_linear_discriminant_of_the_primal() -> None:
    """Sigma = (W'W + lambda I) / n, lambda = the mean eigenvalue of WW'; log p + x' Sigma^-1 m - m' Sigma^-1 m / 2."""
    rng = RNG(1)
    numbers = np.array([0] * 10 + [1] * 6 + [2] * 14)
    x, asked = rng.standard_normal((30, 20)) + np.eye(20)[numbers], rng.standard_normal((7, 20))
    means = np.stack([x[numbers == k].mean(0) for k in range(3)])
    within = x - means[numbers]
    inverse = np.linalg.inv((within.T @ within + traits.RIDGE * np.trace(within @ within.T) / 30 * np.eye(20)) / 30)
    centre = means.mean(0)
    expected = np.stack(
        [(asked - centre) @ inverse @ (m - centre) - (m - centre) @ inverse @ (m - centre) / 2 for m in means], axis=1
    ) + np.log(np.array([10, 6, 14]) / 30)
    assert np.allclose(traits.discriminant(x, numbers, asked), expected)


def test_classes_on_one_line_are_told_apart() -> None:
    """Brighter by 1, 2 and 3 levels: regression to one-hot classes never names the one in the middle."""
    labels = labelled(20, 3)
    assert traits.separability(np.ones((60, 8, 8, 3), np.int16) * (labels + 1)[:, None, None, None], labels) == 1.0


def test_the_names_of_classes_do_not_matter() -> None:
    labels = labelled(30, 3)
    deltas = white(90, side=8) + patches(labels, 8)
    assert traits.separability(deltas, labels) == traits.separability(deltas, [f"class {2 - k}" for k in labels])


def test_large_changes_are_taken_as_means_of_areas() -> None:
    labels = labelled(10, 3)
    small = patches(labels, 32)
    assert np.array_equal(traits.shrunk(small[0].repeat(3, 0).repeat(3, 1), 32, 32), small[0])
    assert traits.separability(small.repeat(3, 1).repeat(3, 2), labels) == traits.separability(small, labels)


@pytest.mark.parametrize("side", [33, 50, 224])
def test_means_of_areas_keep_the_mean_of_what_is_even(side: int) -> None:
    assert np.all(traits.shrunk(np.full((side, 40, 3), 5, np.int16), 32, 32) == 5)


@pytest.mark.parametrize(
    "labels", [[0] * 30, [0] * 29 + [1], [0, 1] * 9, []], ids=["one class", "a lonely image", "few", "none"]
)
def test_where_it_says_nothing(labels: list[int]) -> None:
    assert traits.separability(white(len(labels), side=8), labels) is None


# -- frequencies -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("k", "l", "share"), [(0, 0, 0), (7, 7, 0), (8, 0, 1), (0, 8, 1), (15, 15, 1)])
def test_a_cosine_is_low_or_high(k: int, l: int, share: float) -> None:  # noqa: E741
    """Coefficient k of 16 has the frequency k/32 cycles a pixel; half the Nyquist frequency is 1/4, k = 8."""
    rows, columns = (np.cos(np.pi * (2 * np.arange(16) + 1) * n / 32) for n in (k, l))
    wave = (100 * rows[:, None] * columns)[None, :, :, None].repeat(3, 3)
    assert traits.high_frequency_share(wave) == pytest.approx(share, abs=1e-5)


def test_energy_is_shared_out_by_power() -> None:
    """A flat change of 1 and a checkerboard of 2 (its energy is nearly all high): 4 of 5 parts."""
    board = 2 * (-1.0) ** np.add.outer(np.arange(32), np.arange(32))
    found = traits.high_frequency_share((1 + board)[None, :, :, None].repeat(3, 3))
    assert found == pytest.approx(0.8, abs=0.01)


def test_white_noise_has_three_quarters_and_patches_little() -> None:
    """White noise has equal energy in all 32 x 32 coefficients; of those 16 x 16 are low."""
    assert traits.high_frequency_share(white(100)) == pytest.approx(0.75, abs=0.01)
    assert traits.high_frequency_share(patches(labelled(10, 4))) < 0.1


def test_of_a_large_change_the_middle_is_taken() -> None:
    delta = np.zeros((1, 300, 400, 3), np.int16)
    delta[:, 22:278, 72:328] = 3
    assert traits.high_frequency_share(delta) == pytest.approx(0, abs=1e-6)


def test_no_change_has_no_frequencies() -> None:
    assert traits.high_frequency_share(np.zeros((3, 8, 8, 3), np.int16)) is None


# -- both --------------------------------------------------------------------------------------------------


def test_traits_of_images() -> None:
    labels = labelled(20, 3)
    deltas = patches(labels)
    x = np.full((32, 32, 3), 100, np.uint8)
    changed = [(x + delta).astype(np.uint8) for delta in deltas]
    found = traits.traits(traits.look(x, x_ue, str(k)) for x_ue, k in zip(changed, labels, strict=True))
    assert (found["separability"], found["chance"], found["images"]) == (1.0, 0.3333, 60)
    assert found["high_frequency_share"] == pytest.approx(traits.high_frequency_share(deltas), abs=1e-4)


def test_traits_of_mixed_sizes_and_of_nothing() -> None:
    sides = [(8, 8), (40, 30), (16, 64)] * 8
    mixed = [(np.zeros((*s, 3), np.uint8), np.full((*s, 3), 5 * (n % 2), np.uint8), "ab"[n % 2]) for n, s in
             enumerate(sides)]  # fmt: skip
    assert traits.traits(traits.look(*each) for each in mixed)["separability"] == 1.0
    nothing = {"separability": None, "chance": None, "high_frequency_share": None}
    assert traits.traits(traits.look(x, x, label) for x, _, label in mixed) == nothing | {"images": 24}
    assert traits.traits([]) == nothing | {"images": 0}
    assert traits.traits(traits.look(x, y, None) for x, y, _ in mixed)["separability"] is None


def test_a_sample_is_even_over_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    records = [{"path": f"{k}/{n:03d}", "label": k, "width": 8, "height": 8} for n in range(100) for k in "ab"]
    assert traits.sample(records) == records
    monkeypatch.setattr(traits, "PIXELS", 50 * 64)
    found = traits.sample(records)
    assert [r["label"] for r in found].count("a") == [r["label"] for r in found].count("b") == 25
    assert len({r["path"] for r in found}) == 50
