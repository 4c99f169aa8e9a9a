import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from ue_audit.imagedata import to_float, to_uint8
from ue_audit.purifiers import posterize
from ue_audit.tools import Batch, Tools

RAMP = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)


def purified(**settings):
    purify = posterize.build(None, posterize.Config(**settings), Tools())
    return to_uint8(purify(Batch(to_float(RAMP), None, torch.arange(1), ["a.png"])))


def test_two_bits_are_the_published_levels():
    assert set(purified().ravel()) == {0, 64, 128, 192}
    assert (purified() == RAMP // 64 * 64).all()


@pytest.mark.parametrize("bits", range(1, 9))
def test_equals_pillow(bits):
    assert (purified(bits=bits) == np.asarray(ImageOps.posterize(Image.fromarray(RAMP[0]), bits))).all()


def test_it_darkens():
    """By the mean of 0 .. 63: the published defect."""
    assert (RAMP.astype(int) - purified()).mean() == 31.5


def test_refusals():
    for bits in (0, 9):
        with pytest.raises(ValueError):
            posterize.Config(bits=bits)
