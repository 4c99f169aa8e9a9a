"""Bit depth reduced by truncation: the upper bits of every level, the rest set to 0; ISS's "BDR".

    x_le = level - level mod 2^(8 - bits)           in 8-bit levels; 2 bits: 0, 64, 128, 192

As Pillow's `ImageOps.posterize`. The published countermeasure, with its defect: levels only ever fall, so that with 2
bits training images become some 32 levels darker than the test images a model is then judged by. `bit_depth` rounds.

Published on CIFAR-10, ResNet-18, with 2 bits (in brackets without): clean 88.7 (94.7), EMN 36.5 (21.1), REMN 40.8
(25.4), LSP 66.2 (19.1); re-measured (APBench): EMN 37.9, REMN 58.6, TAP 70.8, LSP 53.9, OPS 37.3.
"""

from collections.abc import Callable
from typing import Any

from pydantic import Field
from torch import Tensor

from ue_audit import config as base
from ue_audit.tools import Batch, Tools

SOURCE = "ISS (Liu et al.), arXiv 2301.13838, bit depth reduction"
IN_WORDS = "cuts the colours of the images down to a few levels"
NEEDS = ()


class Config(base.Config):
    bits: int = Field(2, ge=1, le=8)  # kept of each channel; 8 changes nothing


def passes(config: Config, images: int) -> float:
    """No network."""
    return 0.0


def build(data: Any, config: Config, tools: Tools) -> Callable[[Batch], Tensor]:
    """purify(batch) -> x_le on 2^bits levels."""
    step = 2 ** (8 - config.bits)

    def purify(batch: Batch) -> Tensor:
        levels = (255 * batch.x).round()
        return (levels - levels.remainder(step)) / 255

    return purify
