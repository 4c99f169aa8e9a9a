"""Adversarial training: learn from each image at its worst within a radius, so that no faint pattern pays.

    min over theta:  mean over (x, y)  max over |d| <= radius  CE(f_theta(x + d), y),   x + d in [0,1]

The inner maximum is signed gradient ascent from a uniform random start, on the cropped and mirrored view, so that what
the ascent found is what the step sees. The network attacks in evaluation mode: in training mode batch norm would
couple the images of a batch, and the attack would move its running statistics. A shortcut of a radius below `radius`
can be erased by the ascent at every step; a wider one, or one of few strong pixels, cannot.
"""

from collections.abc import Iterator
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from ue_audit.config import Levels
from ue_audit.tools import Epoch, Tools
from ue_audit.training import fit as loop
from ue_audit.training import pgd, supervised_fit
from ue_audit.training.supervised_fit import Lot

SOURCE = "Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, arXiv 1706.06083"
IN_WORDS = "trains so that faint patterns do not pay"
NEEDS = ("labels",)


class Config(supervised_fit.Config):
    """Defaults: the literature's attack on a laptop's network; `adversarial-paper` is the literature's training.

    4 x 500 images of CIFAR-10: clean 69.9 and 69.3 % (two seeds; supervised 79.2), protected by EMN 70.1, by REMN 72.1
    (n = 1 each), 200 s on one core of a 2-core x86 CPU with AVX512-BF16.
    """

    radius: Levels = Field(8 / 255, ge=0, le=1)  # L-inf, of the attack
    steps: int = Field(10, ge=0)  # of ascent
    alpha: Levels = Field(2 / 255, gt=0, le=1)  # signed step
    random_start: bool = True  # uniform in the radius, else from the view itself


def counters(config: Config) -> str:
    """The victim it hardens."""
    return "supervised"


def passes(config: Config, images: int) -> float:
    """In every epoch one of each image for the step, and one for each move of the attack."""
    return float(config.epochs * (1 + config.steps))


def fit(data: Any, config: Config, tools: Tools) -> Iterator[Epoch]:
    """One `Epoch` after each pass over `data`. Raises UsageError without labels or with one class."""

    def learn(model: nn.Module, optimiser: torch.optim.Optimizer, lot: Lot) -> float:
        x = loop.seen(lot.x, config, lot.generator("views"))
        delta = attack(model, x, lot.y, config, lot.generator("attack"))
        return loop.train_step(model, optimiser, x + delta, lot.y)

    return supervised_fit.fit(data, config, tools, learn)


def attack(model: nn.Module, x: Tensor, y: Tensor, config: Config, generator: torch.Generator) -> Tensor:
    """The change (B,3,S,S) of each x that the ascent ends at: |d| <= radius and x + d in [0,1]."""
    gradient = pgd.pixel_gradient(lambda u: len(y) * loop.loss_of(model, u, y))
    loop.freeze(model, True)
    delta = pgd.project(x, start(x, config, generator), config.radius)
    delta = pgd.descend(x, delta, gradient, eps=config.radius, alpha=-config.alpha, steps=config.steps)
    loop.freeze(model, False)
    return delta


def start(x: Tensor, config: Config, generator: torch.Generator) -> Tensor:
    """Where the ascent begins: uniform in the radius, or nothing."""
    if not config.random_start:
        return torch.zeros_like(x)
    drawn = 2 * torch.rand(x.shape, generator=generator) - 1
    return config.radius * drawn.to(x.device)
