"""The image sheet: exact colours where they belong."""

import io

import numpy as np
import pytest
from PIL import Image

from ue_audit.rendering import sheet


def flat(level: int) -> np.ndarray:
    return np.full((4, 4, 3), level, np.uint8)


def test_a_change_is_sixteen_times_enlarged_about_grey_and_clipped() -> None:
    assert sheet.change(flat(100), flat(103)).max() == 128 + 48
    assert sheet.change(flat(100), flat(97)).max() == 128 - 48
    assert sheet.change(flat(0), flat(255)).max() == 255 and sheet.change(flat(255), flat(0)).max() == 0


def test_tiles_lie_in_rows_and_columns_with_clear_gaps() -> None:
    png = sheet.png([[flat(10), flat(20)], [flat(30), flat(40)]])
    pixels = np.asarray(Image.open(io.BytesIO(png)))
    assert pixels.shape == (4 + sheet.GAP + 4, 4 + sheet.GAP + 4, 4)
    assert [int(pixels[y, x, 0]) for y in (0, -1) for x in (0, -1)] == [10, 20, 30, 40]
    assert pixels[5, 5, 3] == 0 and pixels[0, 0, 3] == 255


def test_a_sheet_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one tile"):
        sheet.png([])
