"""Contrastive adversarial training: SimCLR that must match a view with the worst neighbour of the other.

    min over theta:  mean over batches  max over |d| <= radius  NT-Xent(f(a + d), f(b)),   a + d in [0,1]

with a, b two views of a batch. Noise that makes views alike lies within a radius; here a change of that size may undo
it at every step. This is AdvCL **without** its pseudo-labels, its high-frequency view and its separate batch norms: the
part of it that needs neither a pretrained network nor several GPUs. AdvCL's published 79.3 % on contrastive poisons
(SimCLR, CIFAR-10, 44.9 without) belong to the whole.

The maximum is over all d of a batch at once, since NT-Xent couples its images: signed gradient ascent from a uniform
random start on one view, the other fixed. The network attacks in evaluation mode, as in `adversarial`.
"""

from collections.abc import Iterator
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ue_audit.config import Levels
from ue_audit.learners import simclr
from ue_audit.tools import Epoch, Tools
from ue_audit.training import contrastive, contrastive_fit, pgd
from ue_audit.training.cost import FORWARD

SOURCE = (
    "Fan et al., AdvCL, arXiv 2111.01124, without pseudo-labels and the high-frequency view; "
    "the maximum: Kim et al., arXiv 2006.07589 (RoCL)"
)
IN_WORDS = "trains without labels, and so that faint patterns do not pay"
NEEDS = ("labels",)


class Config(simclr.Config):
    """The recipe of `simclr`, and AdvCL's attack."""

    radius: Levels = Field(8 / 255, ge=0, le=1)  # L-inf, of the attack
    steps: int = Field(5, ge=0)  # of ascent
    alpha: Levels = Field(2 / 255, gt=0, le=1)  # signed step


def counters(config: Config) -> str:
    return "simclr"


def passes(config: Config, images: int) -> float:
    """In every epoch two views of each image for the step, one for each move, and the other view's features."""
    return config.epochs * (2.0 + config.steps + FORWARD)


def fit(data: Any, config: Config, tools: Tools) -> Iterator[Epoch]:
    """One `Epoch` after each probe; see `contrastive_fit.fit`."""

    def harden(model: contrastive.Contrast, a: Tensor, b: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return a + attack(model, a, b, config, generator), b

    return contrastive_fit.fit("simclr", data, config, tools, harden)


def attack(model: contrastive.Contrast, a: Tensor, b: Tensor, config: Config, generator: torch.Generator) -> Tensor:
    """The change (B,3,S,S) of the views a that the ascent ends at: |d| <= radius and a + d in [0,1]."""
    model.freeze(True)
    with torch.no_grad():
        other = contrastive.embed(model.online, b)

    def loss(u: Tensor) -> Tensor:
        z = torch.cat([contrastive.embed(model.online, u), other])
        return contrastive.nt_xent(z, contrastive.TEMPERATURE["simclr"])

    start = config.radius * (2 * torch.rand(a.shape, generator=generator) - 1).to(a)
    delta = pgd.project(a, start, config.radius)
    gradient = pgd.pixel_gradient(loss)
    delta = pgd.descend(a, delta, gradient, eps=config.radius, alpha=-config.alpha, steps=config.steps)
    model.freeze(False)
    return delta
