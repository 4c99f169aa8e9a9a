"""AUE: error-minimising noise against supervised and contrastive learners at once.

EMN in which both phases see the image as a contrastive learner does, through views t of one strength s: resized
crops, flips, colour jitter, grayscale. A round is a pass over the set, then T signed steps on every image's noise.

    min over theta, min over {d_i}:  1/N sum_i E over t  CE(f_theta(t(x_i + d_i)), y_i),   |d_i| <= eps

Supervised cross-entropy on strong views pulls images of a class together as contrastive losses do with views of an
image, so its noise lowers those losses too. Differs from the authors' code: the surrogate's gradient is clipped, and
x + d stays in [0,1] throughout. The noise depends on names and seed, not on the order of the files.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ue_audit.config import Levels
from ue_audit.protections import emn
from ue_audit.tools import Tools
from ue_audit.training import minmin, pgd, views
from ue_audit.training.rows import labels_of

SOURCE = "Wang et al., Efficient Availability Attacks, arXiv 2402.04010 (AUE)"
BUDGET = "linf"
NEEDS = ("labels",)


class Config(minmin.Rounds):
    """Defaults: what protects some thousand small images on a laptop.

    4 x 500 images of CIFAR-10, `small`, 15 epochs, 3 training seeds: protected 42.0 %, noise of the same norm 79.9 %,
    clean 80.1 % (one crafting, H100).
    """

    strength: float = Field(0.6, ge=0, le=1)  # s of the views; 1 is SimCLR's jitter with crops down to a tenth
    weight_decay: float = Field(1e-4, ge=0)
    alpha: Levels = Field(0.8 / 255, gt=0, le=1)
    steps: int = Field(5, ge=1)
    max_rounds: int = Field(30, ge=0)  # passes over the set; all are done, the learning rate falling on a cosine

    def rate(self, number: int) -> float:
        return self.lr * 0.5 * (1 + math.cos(math.pi * (number - 1) / self.max_rounds))

    def view(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return views.view(x, views.Views.of_strength(self.strength), generator)


def generate(data: Any, config: Config, tools: Tools) -> Callable[[Tensor], Tensor]:
    """delta(rows) -> (B,3,S,S) in [-eps, eps] with x + delta in [0,1]. Raises UsageError without two classes."""
    problem = minmin.pose(data, labels_of(data), torch.arange(len(data)), config, tools)
    noise = minmin.search(problem, emn.improve)
    return lambda rows: pgd.project(data.batch(rows), noise[rows], config.eps)


def passes(config: Config, images: int) -> float:
    """Forward and backward passes of the surrogate per image."""
    return minmin.passes(config, images, gradients_per_round=config.steps)


def estimate(data: Any, config: Config, tools: Tools) -> float:
    """Seconds, from one timed gradient."""
    return minmin.estimate(data, config, tools, passes(config, len(data)))
