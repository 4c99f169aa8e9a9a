"""The image sheet: one row per image, one tile per column, as a lossless PNG of the tiles' own size."""

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

Pixels = npt.NDArray[np.uint8]
GAIN = 16
GREY = 128
GAP = 2  # transparent pixels between tiles


def change(x: Pixels, y: Pixels) -> Pixels:
    """y - x sixteen times enlarged about grey, (H,W,3)."""
    levels = GREY + GAIN * (y.astype(np.int16) - x.astype(np.int16))
    return np.clip(levels, 0, 255).astype(np.uint8)


def png(rows: Sequence[Sequence[Pixels]]) -> bytes:
    """The sheet of these tiles, all (H,W,3) of one size. Raises ValueError for none."""
    if not rows or not rows[0]:
        raise ValueError("expected at least one tile for the image sheet, found none")
    height, width = rows[0][0].shape[:2]
    step_y, step_x = height + GAP, width + GAP
    sheet = np.zeros((len(rows) * step_y - GAP, len(rows[0]) * step_x - GAP, 4), np.uint8)
    for i, row in enumerate(rows):
        for j, tile in enumerate(row):
            sheet[i * step_y : i * step_y + height, j * step_x : j * step_x + width] = _opaque(tile)
    buffer = io.BytesIO()
    Image.fromarray(sheet, "RGBA").save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _opaque(tile: Pixels) -> Pixels:
    return np.dstack([tile, np.full(tile.shape[:2], 255, np.uint8)])
