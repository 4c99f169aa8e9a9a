"""Arrays as methods see them, and the way between levels and floats."""

from pathlib import Path

import numpy as np
import pytest
import torch
from trees import image_tree

from ue_audit import imagefolder
from ue_audit.errors import NonFiniteError, UsageError


def test_batches(tmp_path: Path) -> None:
    data = imagefolder.intake(imagefolder.scan(image_tree(tmp_path / "data"))).data
    assert len(data) == 8 and data.size == 8 and data.clean is None
    one = data.batch([5, 2])
    assert one.shape == (2, 3, 8, 8) and one.dtype == torch.float32 and one.min() >= 0 and one.max() <= 1
    assert torch.equal(one, data.batch(torch.tensor([5, 2])))
    assert torch.equal(data.batch(slice(0, 3)), data.batch([0, 1, 2]))
    assert torch.equal(one[0], torch.from_numpy(data.pixels[5]).permute(2, 0, 1) / 255)


def test_every_level_survives_the_way_to_float_and_back() -> None:
    levels = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    x = imagefolder.to_float(levels)
    assert x.shape == (1, 3, 16, 16) and x.dtype == torch.float32
    assert np.array_equal(imagefolder.to_uint8(x), levels)
    assert np.array_equal(imagefolder.to_uint8(x.bfloat16().float() * 0 + x), levels)


def test_to_uint8_rounds_to_nearest_and_clips() -> None:
    x = torch.tensor([-1.0, 0.4 / 255, 0.6 / 255, 254.4 / 255, 254.6 / 255, 7.0]).reshape(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert imagefolder.to_uint8(x)[0, 0, :, 0].tolist() == [0, 0, 1, 254, 255, 255]
    assert x[0, 0, 0, 0] == -1  # the input is left as it is


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_to_uint8_never_hides_what_is_not_a_number(value: float) -> None:
    x = torch.zeros(2, 3, 4, 4)
    x[1, 2, 3, 3] = value
    with pytest.raises(NonFiniteError):
        imagefolder.to_uint8(x)


def test_rows_can_be_taken_and_pixels_replaced(tmp_path: Path) -> None:
    data = imagefolder.intake(imagefolder.scan(image_tree(tmp_path / "data"))).data
    part = data.take([6, 1])
    assert part.keys == ["b/2.png", "a/1.png"] and part.labels.tolist() == [1, 0] and part.classes == data.classes
    assert np.array_equal(part.pixels, data.pixels[[6, 1]])
    other = data.with_pixels(255 - data.pixels)
    assert other.keys == data.keys and torch.equal(other.labels, data.labels)
    assert np.array_equal(other.pixels, 255 - data.pixels)


def test_labels_can_be_counted_by_another_set_s_classes(tmp_path: Path) -> None:
    data = imagefolder.intake(imagefolder.scan(image_tree(tmp_path / "data", each=1))).data
    wider = data.with_classes(("0", "a", "aa", "b"))
    assert wider.labels.tolist() == [1, 3] and wider.classes == ("0", "a", "aa", "b")
    with pytest.raises(UsageError, match="found b"):
        data.with_classes(("a",))
