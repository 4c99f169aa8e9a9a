"""Gaussian blur: every pixel becomes a weighted mean of its neighbourhood.

    x_le(i, j) = sum_uv g(u) g(v) x_ue(i + u, j + v),   g(u) ~ exp(-u² / (2 sigma²)), sum 1, |u| <= 4 sigma

Beyond the edge an image goes on as its last row and column. Published tables (APBench) have a "blur" of 3x3 and sigma
0.1: its outer weights are 2e-22, so it is the identity, and what those rows show (EMN 14.7, REMN 21.8, TAP 7.9, LSP
18.6, OPS 13.4) is how far two trainings on one protected set differ. The default here blurs: sigma 0.7 leaves a
pixel a third of itself.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ue_audit import config as base
from ue_audit.tools import Batch, Tools

SOURCE = "the usual baseline; as printed, and its identity: APBench (Qin et al.), arXiv 2308.03258"
IN_WORDS = "blurs the images a little"
NEEDS = ()
REACH = 4.0  # in sigma, beyond which weights (below 4e-4 of the middle one) are left out


class Config(base.Config):
    sigma: float = Field(0.7, gt=0, le=16)  # pixels; up to 0.25 nothing changes in 8 bits


def passes(config: Config, images: int) -> float:
    """No network."""
    return 0.0


def build(data: Any, config: Config, tools: Tools) -> Callable[[Batch], Tensor]:
    """purify(batch) -> x_le."""
    weights = kernel(config.sigma)
    return lambda batch: _along(_along(batch.x, weights, 2), weights, 3).clamp(0, 1)


def kernel(sigma: float) -> list[float]:
    """g(-r) .. g(r)."""
    reach = math.ceil(REACH * sigma)
    weights = [math.exp(-(u**2) / (2 * sigma**2)) for u in range(-reach, reach + 1)]
    return [weight / sum(weights) for weight in weights]


def _along(x: Tensor, weights: list[float], axis: int) -> Tensor:
    """The weighted mean of neighbours along the rows (2) or columns (3) of (B,3,S,S)."""
    side, reach = x.shape[axis], len(weights) // 2
    padded = F.pad(x, (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0), mode="replicate")
    total = torch.zeros_like(x)
    for start, weight in enumerate(weights):
        total += weight * padded.narrow(axis, start, side)
    return total
