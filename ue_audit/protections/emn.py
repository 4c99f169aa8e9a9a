"""EMN, sample-wise: error-minimising noise, a map of its own for every image.

A surrogate network and the noise minimise the same loss in turns. The noise makes every image look solved, so that
whoever trains on it finds nothing left to learn; the surrogate is kept under-trained, or the images would solve it.

    min over theta, min over {d_i}:  1/N sum_i CE(f_theta(x_i + d_i), y_i),   |d_i| <= eps

Differs from the authors' code: both signs of the noise are kept (theirs drops the negative half when it builds the
data set), nothing is truncated, x + d stays in [0,1] throughout, rounds are capped and the best noise is kept. Both
phases see random crops and flips, as a victim will, and the stop rule waits for `min_rounds`; `emn-paper` turns
these two off. The noise depends on names and seed, not on the order of the files.
"""

from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from ue_audit.tools import Tools
from ue_audit.training import minmin, pgd
from ue_audit.training.noise import Noise
from ue_audit.training.rows import labels_of

SOURCE = "Huang et al., Unlearnable Examples, arXiv 2101.04898, section 3 (sample-wise)"
BUDGET = "linf"
NEEDS = ("labels",)


class Config(minmin.Search):
    """Defaults: what protects some thousand small images on a laptop.

    4 x 500 images of CIFAR-10, `small`, 15 epochs: protected 26.0 % (26.0, 26.0, 26.1), noise of the same norm 79.9 %,
    clean 80.1 % (one crafting x 3 training seeds, H100). After 20 rounds, half the time, 31.7 / 34.3 / 45.2 % (3
    craftings x 3 seeds; 42 s on two idle cores of an x86 CPU with AVX512).
    """

    min_rounds: int = Field(40, ge=0)
    max_rounds: int = Field(60, ge=0)


def generate(data: Any, config: Config, tools: Tools) -> Callable[[Tensor], Tensor]:
    """delta(rows) -> (B,3,S,S) in [-eps, eps] with x + delta in [0,1]. Raises UsageError without two classes."""
    problem = minmin.pose(data, labels_of(data), torch.arange(len(data)), config, tools)
    noise = minmin.search(problem, improve)
    return lambda rows: pgd.project(data.batch(rows), noise[rows], config.eps)


def improve(problem: minmin.Problem, model: nn.Module, before: Noise, after: Noise, number: int) -> None:
    """T signed steps on every image from its present noise, which is never drawn anew."""
    config = problem.config
    for batch, rows in enumerate(torch.split(problem.order, minmin.DELTA_BATCH)):
        x, d, y = problem.protected(rows, before)
        gradient = problem.gradient(model, y, number, batch)
        after[rows] = pgd.descend(x, d, gradient, eps=config.eps, alpha=config.alpha, steps=config.steps)


def passes(config: Config, images: int) -> float:
    """Forward and backward passes of the surrogate per image, in as many rounds as usual."""
    return minmin.passes(config, images, gradients_per_round=config.steps)


def estimate(data: Any, config: Config, tools: Tools) -> float:
    """Seconds, from one timed gradient."""
    return minmin.estimate(data, config, tools, passes(config, len(data)))
