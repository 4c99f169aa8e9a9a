import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from ue_audit.imagedata import to_float, to_uint8
from ue_audit.purifiers import median
from ue_audit.tools import Batch, Tools


def purified(x, **settings):
    purify = median.build(None, median.Config(**settings), Tools())
    return purify(Batch(x, None, torch.arange(len(x)), ["a.png"] * len(x)))


@pytest.mark.parametrize("window", [3, 5, 7])
def test_a_one_pixel_shortcut_on_a_flat_image_is_gone_wherever_it_sits(window):
    """64 images, one for each place of 8x8, corners and edges among them."""
    flat = torch.full((64, 3, 8, 8), 90 / 255)
    x_ue = flat.clone()
    x_ue.view(64, 3, 64)[torch.arange(64), :, torch.arange(64)] = torch.tensor([1.0, 0.0, 1.0])
    assert torch.equal(purified(x_ue, window=window), flat)


def test_what_half_of_a_window_has_stays():
    """An edge between two halves is where it was."""
    x = torch.zeros(1, 3, 8, 8)
    x[..., 4:] = 1
    assert torch.equal(purified(x), x)


@pytest.mark.parametrize("window", [3, 5])
def test_equals_pillow(window):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 16, 3)).astype(np.uint8)
    by_pillow = np.asarray(Image.fromarray(pixels).filter(ImageFilter.MedianFilter(window)))
    assert (to_uint8(purified(to_float(pixels[None]), window=window))[0] == by_pillow).all()


def test_refusals():
    for window in (1, 2, 9):
        with pytest.raises(ValueError):
            median.Config(window=window)
