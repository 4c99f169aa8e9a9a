"""Greyscale: the luma of every pixel in all three channels; ISS against coloured, low-frequency perturbations.

    Y = round(0.299 R + 0.587 G + 0.114 B),   x_le = (Y, Y, Y)          in 8-bit levels

ITU-R 601 weights in 16-bit fixed point, as Pillow's `convert("L")`. A perturbation whose luma is zero vanishes, and
perturbations of slightly trained surrogates (EMN, REMN) are mostly such; what lies in the luma (TAP, AR) stays whole.

Published on CIFAR-10, ResNet-18, of training images turned grey (ISS; in brackets without): clean 92.4 (94.7), EMN 93.0
(21.1), REMN 92.8 (25.4), LSP 82.5 (19.1), AR 34.0 (13.3), TAP 9.1 (8.2), OPS 42.4 (36.6).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ue_audit import config as base
from ue_audit.tools import Batch, Tools

SOURCE = "ISS (Liu et al.), arXiv 2301.13838, grayscale; ITU-R BT.601"
IN_WORDS = "turns the images grey"
NEEDS = ()
LUMA = (19595, 38470, 7471)  # 0.299, 0.587, 0.114 in units of 2^-16; they sum to 2^16


class Config(base.Config):
    """Nothing to set."""


def passes(config: Config, images: int) -> float:
    """No network."""
    return 0.0


def build(data: Any, config: Config, tools: Tools) -> Callable[[Batch], Tensor]:
    """purify(batch) -> x_le, three equal channels."""

    def purify(batch: Batch) -> Tensor:
        levels = (255 * batch.x).round().to(torch.int32)
        weights = torch.tensor(LUMA, dtype=torch.int32, device=levels.device).view(3, 1, 1)
        luma = ((levels * weights).sum(1, keepdim=True) + 2**15) >> 16  # (B,1,S,S)
        return (luma / 255).expand_as(batch.x).contiguous()

    return purify
