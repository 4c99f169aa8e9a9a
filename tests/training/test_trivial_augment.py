"""TrivialAugment: every operation against torchvision's, image by image, and the draw against its space."""

import math

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as reference

from ue_audit.training import trivial_augment
from ue_audit.training.trivial_augment import OPERATIONS, SPACES, Drawn


def images(n=6, tall=12, wide=16, seed=0):
    return torch.rand(n, 3, tall, wide, generator=torch.Generator().manual_seed(seed))


def affine(x, translate=(0, 0), shear=(0.0, 0.0), center=None):
    return reference.affine(x, 0.0, list(translate), 1.0, list(shear), center=center)


def slope(value):
    return math.degrees(math.atan(value))


REFERENCES = {
    "identity": lambda x, m: x,
    "shear_x": lambda x, m: affine(x, shear=(slope(m), 0.0), center=[0, 0]),
    "shear_y": lambda x, m: affine(x, shear=(0.0, slope(m)), center=[0, 0]),
    "translate_x": lambda x, m: affine(x, (int(m * x.shape[2]), 0)),
    "translate_y": lambda x, m: affine(x, (0, int(m * x.shape[1]))),
    "rotate": lambda x, m: reference.rotate(x, m),
    "brightness": lambda x, m: reference.adjust_brightness(x, 1 + m),
    "colour": lambda x, m: reference.adjust_saturation(x, 1 + m),
    "contrast": lambda x, m: reference.adjust_contrast(x, 1 + m),
    "sharpness": lambda x, m: reference.adjust_sharpness(x, 1 + m),
    "posterize": lambda x, m: reference.posterize(x, round(m)),
    "solarize": reference.solarize,
    "autocontrast": lambda x, m: reference.autocontrast(x),
    "equalize": lambda x, m: reference.equalize(x),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_torchvisions_on_every_image(name):
    x, reach = images(), SPACES["wide"][name]
    share = torch.tensor([0.03, 0.21, 0.4, 0.62, 0.83, 0.97])  # off the ties of nearest pixels
    strength = reach.first + (reach.last - reach.first) * share
    strength[1::2] *= -1 if reach.signed else 1
    found = OPERATIONS[name](x, strength.view(-1, 1, 1, 1))
    for image, m, mine in zip(x, strength.tolist(), found, strict=True):
        assert torch.allclose(mine, REFERENCES[name](image, m), atol=2e-6), (name, m)


def test_the_wide_space_is_torchvisions():
    theirs = v2.TrivialAugmentWide()._AUGMENTATION_SPACE
    assert len(theirs) == len(SPACES["wide"]) == len(REFERENCES) == len(OPERATIONS)
    names = {"Color": "colour", **{f"{a}{b}": f"{a.lower()}_{b.lower()}" for a in ("Shear", "Translate") for b in "XY"}}
    for theirs_name, (magnitudes, signed) in theirs.items():
        name = names.get(theirs_name, theirs_name.lower())
        reach, values = SPACES["wide"][name], magnitudes(trivial_augment.STRENGTHS, 32, 32)
        scale = 32 if name.startswith("translate") else 1
        mine = torch.linspace(float(reach.first), float(reach.last), trivial_augment.STRENGTHS) * scale
        assert reach.signed == signed
        if values is not None:
            assert torch.allclose(mine.round() if name == "posterize" else mine, values.float(), atol=1e-5)


@pytest.mark.parametrize("space", SPACES)
def test_draws_are_even_and_within_reach(space):
    n, reaches = 6000, SPACES[space]
    drawn = trivial_augment.draw(n, space, torch.Generator().manual_seed(0))
    for place, name in enumerate(OPERATIONS):
        strengths = drawn.strength[drawn.operation == place]
        if name not in reaches:
            assert not len(strengths)
            continue
        # binomial(6000, 1/14 or 1/12): 429 +- 20, 500 +- 21
        assert abs(len(strengths) - n / len(reaches)) < 90
        reach = reaches[name]
        low, high = min(reach.first, reach.last), max(reach.first, reach.last)
        assert float(strengths.abs().min()) >= low - 1e-6 and float(strengths.abs().max()) <= high + 1e-6
        assert len(strengths.abs().unique()) == (trivial_augment.STRENGTHS if low < high else 1)
        negative = float((strengths < 0).float().mean())
        assert abs(negative - 0.48) < 0.12 if reach.signed else negative == 0


def test_images_of_a_batch_do_not_see_each_other():
    x, n = images(48), 48
    drawn = trivial_augment.draw(n, "wide", torch.Generator().manual_seed(3))
    whole = trivial_augment.apply(x, drawn)
    assert float(whole.min()) >= 0 and float(whole.max()) <= 1
    for i in range(n):
        alone = trivial_augment.apply(x[i : i + 1], Drawn(drawn.operation[i : i + 1], drawn.strength[i : i + 1]))
        assert torch.allclose(whole[i : i + 1], alone, atol=1e-6)


def test_tiny_images_pass():
    x = images(28, 1, 2)
    drawn = Drawn(torch.arange(28) % len(OPERATIONS), torch.full((28,), 0.5))
    assert trivial_augment.apply(x, drawn).shape == x.shape
