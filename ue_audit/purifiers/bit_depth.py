"""Bit depth reduced by rounding to the nearest of 2^bits even levels from black to white.

    x_le = round((2^bits - 1) x) / (2^bits - 1)             2 bits: levels 0, 85, 170, 255

Feature squeezing's quantiser. Not the published "BDR" of ISS, which truncates (`posterize`): rounding leaves black,
white and the mean brightness where they were, and is the kinder of the two to a training set.
"""

from collections.abc import Callable
from typing import Any

from pydantic import Field
from torch import Tensor

from ue_audit import config as base
from ue_audit.tools import Batch, Tools

SOURCE = "Feature Squeezing (Xu et al.), arXiv 1704.01155, squeezing color bits"
IN_WORDS = "rounds the colours of the images to a few levels"
NEEDS = ()


class Config(base.Config):
    bits: int = Field(2, ge=1, le=8)  # of each channel; 8 changes nothing


def passes(config: Config, images: int) -> float:
    """No network."""
    return 0.0


def build(data: Any, config: Config, tools: Tools) -> Callable[[Batch], Tensor]:
    """purify(batch) -> x_le on 2^bits levels."""
    steps = 2**config.bits - 1
    return lambda batch: (steps * batch.x).round() / steps
