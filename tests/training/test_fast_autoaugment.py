"""Fast AutoAugment: the published table is whole, and what is drawn from it happens."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from ue_audit.training import fast_autoaugment as faa
from ue_audit.training.fast_autoaugment import NAMES, Drawn


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_published_policy():
    known = faa.policy()
    assert known.operation.shape == known.probability.shape == (493, 2)
    assert known.probability.min() >= 0 and known.probability.max() <= 1
    assert [NAMES[place] for place in known.operation[0]] == ["Contrast", "TranslateX"]
    assert torch.allclose(known.probability[0], torch.tensor([0.8321, 0.4185]))
    # level 0.4988 of contrast 0.1..1.9 is 0.998, a factor; 0.394 of +-0.45 is -0.0954 of the side
    assert torch.allclose(known.strength[0], torch.tensor([0.9979 - 1, -0.0954]), atol=1e-3)
    bits = known.strength[known.operation == NAMES.index("Posterize")]
    assert set(bits.tolist()) <= {4.0, 5.0, 6.0, 7.0, 8.0}


def test_half_of_a_signed_operation_goes_the_other_way():
    drawn = faa.draw(20000, dice())
    turned = drawn.strength[drawn.operation == NAMES.index("Rotate")]
    assert 0.45 < float((turned > 0).float().mean()) < 0.55
    bright = drawn.strength[drawn.operation == NAMES.index("Brightness")]
    assert bright.abs().max() <= 0.9
    happens = float((drawn.operation >= 0).float().mean())
    assert abs(happens - float(faa.policy().probability.mean())) < 0.02


def test_each_image_gets_its_own_operations():
    x = torch.rand(4, 3, 10, 10, generator=dice())
    operation = torch.tensor(
        [
            [NAMES.index("Invert"), -1],
            [-1, -1],
            [NAMES.index("Cutout"), -1],
            [NAMES.index("Invert"), NAMES.index("Invert")],
        ]
    )
    strength, centre = torch.full((4, 2), 0.2), torch.full((4, 2), 0.5)
    out = faa.apply(x, Drawn(operation, strength, centre, centre))
    assert torch.allclose(out[0], 1 - x[0]) and torch.equal(out[1], x[1]) and torch.allclose(out[3], x[3])
    grey = torch.tensor(faa.GREY).view(3, 1, 1)
    assert int((out[2] == grey).all(0).sum()) == 4  # 2 x 2 of 10 x 10
    assert torch.equal(out[2, :, 0], x[2, :, 0])


def test_a_batch_keeps_shape_and_range_and_repeats():
    x = torch.rand(300, 3, 12, 12, generator=dice())
    out = faa.apply(x, faa.draw(300, dice(1)))
    assert out.shape == x.shape and out.min() >= 0 and out.max() <= 1
    assert torch.equal(out, faa.apply(x, faa.draw(300, dice(1))))
    assert float((out != x).flatten(1).any(1).float().mean()) > 0.7


PILLOW = {  # of an image and the value that a level stands for
    "ShearX": lambda image, v: image.transform(image.size, Image.Transform.AFFINE, (1, v, 0, 0, 1, 0)),
    "ShearY": lambda image, v: image.transform(image.size, Image.Transform.AFFINE, (1, 0, 0, v, 1, 0)),
    "TranslateX": lambda image, v: image.transform(image.size, Image.Transform.AFFINE, (1, 0, v * 20, 0, 1, 0)),
    "TranslateY": lambda image, v: image.transform(image.size, Image.Transform.AFFINE, (1, 0, 0, 0, 1, v * 20)),
    "Rotate": lambda image, v: image.rotate(v),
    "AutoContrast": lambda image, v: ImageOps.autocontrast(image),
    "Invert": lambda image, v: ImageOps.invert(image),
    "Equalize": lambda image, v: ImageOps.equalize(image),
    "Solarize": lambda image, v: ImageOps.solarize(image, v * 255),
    "Posterize": lambda image, v: ImageOps.posterize(image, int(v)),
    "Contrast": lambda image, v: ImageEnhance.Contrast(image).enhance(1 + v),
    "Color": lambda image, v: ImageEnhance.Color(image).enhance(1 + v),
    "Brightness": lambda image, v: ImageEnhance.Brightness(image).enhance(1 + v),
    "Sharpness": lambda image, v: ImageEnhance.Sharpness(image).enhance(1 + v),
}


@pytest.mark.parametrize("name", PILLOW)
def test_an_operation_is_pillows(name):
    """At levels of 0.07 to 0.93; two levels of 255 are left to Pillow's rounding, one pixel in 50 to ties."""
    smooth = torch.rand(1, 3, 5, 5, generator=dice(3))
    x = torch.nn.functional.interpolate(smooth, (20, 20), mode="bicubic").clamp(0.1, 0.8).mul(255).round() / 255
    image = Image.fromarray((x[0].permute(1, 2, 0) * 255).round().byte().numpy())
    reach = faa.REACH[name]
    for level in (0.07, 0.31, 0.64, 0.93):
        value = reach.first + (reach.last - reach.first) * level
        value = float(int(value)) if name == "Posterize" else value
        half = torch.tensor([0.5])
        found = faa.operate(name, x, torch.tensor([value]), half, half)[0].permute(1, 2, 0) * 255
        theirs = torch.from_numpy(np.asarray(PILLOW[name](image.copy(), value)).copy()).float()
        apart = (found - theirs).abs().amax(2)
        assert float((apart > 2).float().mean()) <= 0.02, (level, float(apart.max()))


@pytest.mark.parametrize("level", [0.0, 0.07, 0.31, 0.64, 0.93])
def test_a_hole_of_the_policy_is_as_large_as_pillows(level):
    """A rectangle from 8 to 8 + 20 * 0.2 * level px, whose last pixel counts; no hole at level 0."""
    image = Image.new("RGB", (20, 20), "white")
    size = 20 * 0.2 * level
    if size:
        ImageDraw.Draw(image).rectangle((8, 8, 8 + size, 8 + size), (125, 123, 114))
    half = torch.tensor([0.5])
    found = faa.operate("Cutout", torch.ones(1, 3, 20, 20), torch.tensor([0.2 * level]), half, half)
    assert int((found < 1).sum()) == int((np.asarray(image) < 255).sum())


def test_every_published_name_has_an_operation():
    assert {*PILLOW, "Cutout"} == set(NAMES)
