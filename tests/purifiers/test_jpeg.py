import io

import numpy as np
import pytest
import torch
from PIL import Image

from ue_audit.imagedata import to_float, to_uint8
from ue_audit.purifiers import jpeg
from ue_audit.tools import Batch, Tools

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 24, 24, 3)).astype(np.uint8)


def purified(pixels=PIXELS, **settings):
    purify = jpeg.build(None, jpeg.Config(**settings), Tools())
    return to_uint8(purify(Batch(to_float(pixels), None, torch.arange(len(pixels)), ["a.png"] * len(pixels))))


def test_defaults_equal_pillow_at_quality_10():
    """What it does when it is told the quality and nothing else: 4:2:0, standard tables."""
    for x_ue, x_le in zip(PIXELS, purified(), strict=True):
        file = io.BytesIO()
        Image.fromarray(x_ue).save(file, "JPEG", quality=10)
        assert (np.asarray(Image.open(file)) == x_le).all()


def test_subsampling_takes_colour_and_leaves_luma():
    """A checkerboard of 16 levels in blue and yellow, luma 0.114 * 16 - 0.886 * 2.06 = 0: its colour has the highest
    frequency there is, of which 4:2:0 keeps nothing and 4:4:4 at quality 100 keeps it."""
    board = np.where(np.indices((16, 16)).sum(0) % 2, 1, -1)[None, :, :, None]
    pixels = (128 + board * np.array([-2, -2, 16])).astype(np.uint8)
    blue = [
        abs(purified(pixels, quality=100, subsampling=s)[..., 2].astype(int) - 128).mean() for s in ("4:2:0", "4:4:4")
    ]
    assert blue[0] < 2 and blue[1] > 14


def test_quality_counts():
    errors = [abs(purified(quality=q).astype(int) - PIXELS).mean() for q in (5, 10, 50, 95)]
    assert errors == sorted(errors, reverse=True) and len(set(errors)) == 4


def test_a_flat_grey_image_stays():
    """Only the mean of a block is coded, in steps of 160 / 8 = 20 levels at quality 10: 128 is level 0 of them."""
    flat = np.full((1, 16, 16, 3), 128, np.uint8)
    assert (purified(flat) == flat).all()


def test_the_codec_is_noted():
    tools = Tools()
    jpeg.build(None, jpeg.Config(), tools)
    assert tools.notes["libjpeg"]


def test_refusals():
    for bad in ({"quality": 0}, {"quality": 101}, {"subsampling": "4:1:1"}):
        with pytest.raises(ValueError):
            jpeg.Config(**bad)
