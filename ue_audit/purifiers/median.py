"""Median filter: every value becomes the median of its neighbourhood, channel by channel.

    x_le(i, j) = median { x_ue(i + u, j + v) : |u|, |v| <= (window - 1) / 2 }

What fewer than half of a neighbourhood's pixels have is gone, however strong it is: a one-pixel shortcut, which
diffusion purification spreads but does not remove (JCDP on OPS: 58.6). Put it first in a chain: `median+jcdp`. Beyond
the edge an image goes on as its last row and column, as in Pillow's `MedianFilter`; a pixel in the corner then fills
(r + 1)² of its (2r + 1)² places, still fewer than half.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ue_audit import config as base
from ue_audit.tools import Batch, Tools

SOURCE = "Tukey's median filter; against one-pixel shortcuts: OPS (Wu et al.), arXiv 2205.12141"
IN_WORDS = "smooths the images with a median filter"
NEEDS = ()


class Config(base.Config):
    window: Literal[3, 5, 7] = 3  # pixels a side


def passes(config: Config, images: int) -> float:
    """No network."""
    return 0.0


def build(data: Any, config: Config, tools: Tools) -> Callable[[Batch], Tensor]:
    """purify(batch) -> x_le."""
    reach = config.window // 2
    places = [(i, j) for i in range(config.window) for j in range(config.window)]

    def purify(batch: Batch) -> Tensor:
        height, width = batch.x.shape[2:]
        padded = F.pad(batch.x, (reach,) * 4, mode="replicate")
        near = torch.stack([padded[:, :, i : i + height, j : j + width] for i, j in places])  # (window², B,3,S,S)
        return near.median(0).values

    return purify
