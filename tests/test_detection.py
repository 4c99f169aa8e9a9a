"""Every probe on a shortcut planted for it, and on pictures without one; by hand where there is a closed form."""

import math

import numpy as np
import pytest
import torch

from ue_audit import detection, distances

Array = np.ndarray
SIDE = 16


def labels(each: int, classes: int) -> Array:
    return np.arange(each * classes) % classes


def pictures(numbers: Array, seed: int = 0, side: int = SIDE) -> Array:
    """Smooth pictures, their class hardly to be seen: 4 x 4 colours, each shown on an area, and a little noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(40, 215, (len(numbers), 4, 4, 3)) + 4 * (numbers % 2)[:, None, None, None]
    fine = coarse.repeat(side // 4, 1).repeat(side // 4, 2) + rng.normal(0, 3, (len(numbers), side, side, 3))
    return np.clip(np.rint(fine), 0, 255).astype(np.uint8)


def planted(x: Array, delta: Array) -> Array:
    return np.clip(x + np.rint(delta), 0, 255).astype(np.uint8)


def maps(numbers: Array, levels: float = 8.0) -> Array:
    """One map of random signs for each class."""
    rng = np.random.default_rng(9)
    return levels * rng.choice([-1.0, 1.0], (int(numbers.max()) + 1, SIDE, SIDE, 3))[numbers]


def waves(numbers: Array) -> Array:
    """Another wave for every image, of random phase: fast along rows in one class, along columns in the other."""
    phase = np.random.default_rng(8).uniform(0, 2 * np.pi, (len(numbers), 1, 1))
    along = np.arange(SIDE) * 2.4 + phase
    wave = np.where((numbers == 0)[:, None, None], along, along.transpose(0, 2, 1))
    return 8 * np.cos(wave)[..., None].repeat(3, 3)


# -- the whole -----------------------------------------------------------------------------------------------


def test_pictures_without_a_shortcut_show_nothing() -> None:
    numbers = labels(100, 2)
    found = detection.probe(pictures(numbers), numbers)
    assert max(found.figures[name] for name in ("pixels", "spectrum", "fragile", "colour", "shifted")) < 0.4
    assert max(found.figures[f"mean_{band}"] for band in ("low", "mid", "high")) < 0.02
    assert found.figures["one_pixel"] == 0


def test_maps_of_classes_are_seen_by_the_classifiers_and_the_means() -> None:
    numbers = labels(100, 2)
    found = detection.probe(planted(pictures(numbers), maps(numbers)), numbers)
    assert min(found.figures["pixels"], found.figures["spectrum"]) > 0.8
    assert found.figures["mean_high"] > 0.05 and found.p_values["mean_high"] == 0.01


def test_waves_of_any_phase_are_seen_by_the_spectrum_alone() -> None:
    numbers = labels(100, 2)
    found = detection.probe(planted(pictures(numbers), waves(numbers)), numbers)
    assert found.figures["spectrum"] > 0.7 and found.figures["pixels"] < 0.4
    assert found.figures["mean_high"] < 0.02


def test_the_same_seed_finds_the_same() -> None:
    numbers = labels(10, 3)
    x = pictures(numbers)
    assert detection.probe(x, numbers, seed=3) == detection.probe(x.copy(), numbers, seed=3)
    assert detection.probe(x, numbers, seed=3) != detection.probe(x, numbers, seed=4)


# -- parts ---------------------------------------------------------------------------------------------------


def test_accuracy_above_chance() -> None:
    """Of 3 and 1: chance is 3/4, and 7/8 lies half way to 1."""
    numbers = np.array([0, 0, 0, 1])
    assert [detection.above_chance(a, numbers) for a in (0.75, 0.875, 1.0)] == [0.0, 0.5, 1.0]


def test_a_linear_classifier_is_asked_for_every_image_once_and_never_for_one_it_knows() -> None:
    """White noise in far more dimensions than images: 200 guesses at 1/2 lie within 4 sqrt(1/4 / 200) = 0.14."""
    numbers = labels(100, 2)
    noise = np.random.default_rng(0).standard_normal((200, 500))
    assert abs(detection.linear(noise, numbers)) < 2 * 4 * math.sqrt(0.25 / 200)
    assert detection.linear(noise + 3 * numbers[:, None], numbers) == 1


def test_what_lies_in_the_brightness_is_lost_under_a_shift() -> None:
    """Two classes that differ in brightness alone: a network finds them, and not after the shift, which is larger."""
    numbers = labels(100, 2)
    grey = np.random.default_rng(0).integers(90, 100, (200, 8, 8, 3)) + 60 * numbers[:, None, None, None]
    found = detection.two_layer(grey.astype(np.uint8), numbers, seed=0, device="cpu")
    assert found["two_layer"] > 0.95 and found["shifted"] < 0.1


def test_a_map_outlives_a_shift() -> None:
    numbers = labels(100, 2)
    grey = np.random.default_rng(0).integers(118, 138, (200, SIDE, SIDE, 3)).astype(np.uint8)
    found = detection.two_layer(planted(grey, maps(numbers)), numbers, seed=0, device="cpu")
    assert min(found.values()) > 0.9


def test_a_wave_has_its_energy_in_its_cell() -> None:
    """Coefficient (5, 2) of 16 lies in cell (2, 1) of 8: amplitude 20 has energy 20² 16²/4, over 2 x 2 of a cell."""
    rows, columns = (np.cos(np.pi * (2 * np.arange(16) + 1) * k / 32) for k in (5, 2))
    x = np.clip(np.rint(128 + 20 * rows[:, None] * columns), 0, 255).astype(np.uint8)[None, ..., None].repeat(3, 3)
    cells = np.expm1(detection.spectrum(x)).reshape(8, 8, 3)
    assert cells[2, 1] == pytest.approx(20**2 * 16**2 / 4 / 4, rel=0.02)
    cells[2, 1] = cells[0, 0] = 0
    assert cells.max() < 2  # of 1,600: rounding to levels


def test_bands_are_those_of_residuals() -> None:
    x = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 3)).astype(np.uint8)
    energy = np.stack([np.square(part).sum(1) for part in detection.bands(x).values()], 1)
    shares = distances.bands(torch.from_numpy(x).permute(0, 3, 1, 2).float())
    assert energy / energy.sum(1, keepdims=True) == pytest.approx(shares.numpy(), rel=1e-4)


def test_of_large_images_the_middle_is_seen() -> None:
    x = np.zeros((1, 100, 100, 3), np.uint8)
    x[:, 18:82, 18:82] = 200
    assert detection.coefficients(x).shape == (1, 64, 64, 3)
    assert detection.coefficients(x)[0, 0, 0] == pytest.approx(200 * 64)


def test_the_means_of_classes_by_hand() -> None:
    """-1, -1, 1, 1: all variance lies between the classes; permuted labels have 1/3 of it on average."""
    share, p = detection.class_means(np.array([[-1.0], [-1.0], [1.0], [1.0]], np.float32), np.array([0, 0, 1, 1]), 0)
    assert share == pytest.approx(2 / 3)
    assert 0.2 < p < 0.5  # 2 of the 6 ways to halve four are these two classes


def test_the_p_value_of_means_holds_on_noise() -> None:
    """Of 200 sets without a class at most 4 sd above 5 %, 0.05 + 4 sqrt(0.05 0.95 / 200) = 11 %, have p <= 0.05."""
    rng, numbers = np.random.default_rng(0), labels(8, 3)
    found = [detection.class_means(rng.standard_normal((24, 20)).astype(np.float32), numbers, n) for n in range(200)]
    assert np.mean([p <= 0.05 for _, p in found]) < 0.11
    assert np.mean([share for share, _ in found]) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("classes", [0, 1, 3])
def test_one_pixel_is_counted_by_class(classes: int) -> None:
    numbers = labels(20, 4)
    x = pictures(numbers)
    for number in range(classes):
        x[numbers == number, 3 + number, 5] = (255, 0, 253)
    assert detection.one_pixel(x, numbers) == classes / 4


def test_a_pixel_that_all_classes_have_is_no_shortcut() -> None:
    numbers = labels(20, 4)
    x = pictures(numbers)
    x[:, 3, 5] = 255
    assert detection.one_pixel(x, numbers) == 0


@pytest.mark.parametrize("name", detection.TREATMENTS)
def test_countermeasures_keep_shape_and_leave_their_input(name: str) -> None:
    x = pictures(labels(2, 2))
    before = x.copy()
    treated = detection.TREATMENTS[name](x)
    assert treated.shape == x.shape and treated.dtype == np.uint8 and (x == before).all()
    assert (treated == x).all() == (name == "nothing")
