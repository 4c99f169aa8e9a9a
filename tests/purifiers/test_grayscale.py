import numpy as np
import torch
from PIL import Image

from ue_audit.imagedata import to_float, to_uint8
from ue_audit.purifiers import grayscale
from ue_audit.tools import Batch, Tools

COLOURS = np.stack(np.meshgrid(*[np.arange(0, 256, 3)] * 3), -1).reshape(1, -1, 86, 3).astype(np.uint8)


def purified(pixels):
    """(B,H,W,3) uint8 -> the same, grey."""
    x = to_float(pixels)
    made = grayscale.build(None, grayscale.Config(), Tools())(Batch(x, None, torch.arange(len(x)), ["a.png"] * len(x)))
    return to_uint8(made)


def test_equals_pillow():
    by_pillow = np.asarray(Image.fromarray(COLOURS[0]).convert("L"))
    assert (purified(COLOURS) == by_pillow[None, :, :, None]).all()


def test_a_colour_pattern_of_zero_luma_vanishes_exactly():
    """Patterns (a, b, c) of at most 16 levels with 299 a + 587 b + 114 c = 0, found by search. Colours whose luma ends
    in a half are left out: which way that rounds, 601 does not say."""
    a, b = np.meshgrid(np.arange(-16, 17), np.arange(-16, 17))
    c = -(299 * a + 587 * b) / 114
    whole = (c == np.rint(c)) & (abs(c) <= 16) & (a != 0)
    patterns = np.stack([a[whole], b[whole], c[whole]], -1).astype(int)
    assert len(patterns) >= 2
    rng = np.random.default_rng(0)
    x = rng.integers(40, 216, (len(patterns), 16, 16, 3))
    x[(x @ [299, 587, 114]) % 1000 == 500] = 128
    assert (purified((x + patterns[:, None, None]).astype(np.uint8)) == purified(x.astype(np.uint8))).all()


def test_luma_stays():
    """A grey image is its own luma, since the weights sum to 1: a perturbation without colour is all kept."""
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)
    assert (purified(ramp) == ramp).all()
