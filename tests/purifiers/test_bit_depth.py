import numpy as np
import pytest
import torch

from ue_audit.imagedata import to_float, to_uint8
from ue_audit.purifiers import bit_depth
from ue_audit.tools import Batch, Tools

RAMP = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, 3)


def purified(**settings):
    purify = bit_depth.build(None, bit_depth.Config(**settings), Tools())
    return to_uint8(purify(Batch(to_float(RAMP), None, torch.arange(1), ["a.png"]))).astype(int)


def test_two_bits_are_the_nearest_of_four_even_levels():
    """Halfway are 42.5, 127.5 and 212.5, which no level hits."""
    assert set(purified().ravel()) == {0, 85, 170, 255}
    assert abs(purified() - RAMP).max() == 42


@pytest.mark.parametrize("bits", range(1, 9))
def test_brightness_stays(bits):
    """Levels and cells are symmetric about 127.5, black and white stay."""
    made = purified(bits=bits)
    assert made.mean() == 127.5
    assert (made[0, 0, 0, 0], made[0, 15, 15, 0]) == (0, 255)
    assert len(np.unique(made)) == 2**bits


def test_eight_bits_change_nothing():
    assert (purified(bits=8) == RAMP).all()


def test_refusals():
    for bits in (0, 9):
        with pytest.raises(ValueError):
            bit_depth.Config(bits=bits)
