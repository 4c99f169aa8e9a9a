"""CP-S: contrastive poisoning, a map of its own for every image, against training without labels.

As `cp_class` with a map for each image, started from maps of the classes, which makes a stronger poison:

    min over theta, min over {d_i}:  E L(f_theta; T(x_i + d_i), T'(x_i + d_i)),   |d_i| <= eps

First `warm_rounds` rounds of `cp_class`, then a fresh network and `rounds` rounds in which every image's noise takes
`steps` signed steps. Images without class folders start from U(-eps, eps) instead, and the manifest says so. What
differs from the authors' code is told in `cp_class`; and the last round's noise is kept, where they picked an earlier
one for SimCLR.
"""

from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ue_audit.config import Levels
from ue_audit.protections import cp_class
from ue_audit.tools import Tools
from ue_audit.training import alignment, pgd
from ue_audit.training.noise import Noise

SOURCE = cp_class.SOURCE
BUDGET = "linf"
NEEDS: tuple[str, ...] = ()
WARM_STEPS = 1  # signed steps per mini-batch of the class maps
WARM_ALPHA = 0.8 / 255


class Config(alignment.Poison):
    """Defaults: some thousand small images on a laptop; **unmeasured**. The following hardly protect (see `alignment`).

    4 x 500 images of CIFAR-10, SimCLR, ResNet-18 crafting (40 rounds of 4 steps, 60 of class maps, `lr_scale` 1) and
    learning (100 epochs): the probe has 68.2 %, with noise of equal size 69.9, clean 68.7 (n = 1 each). A small net of
    its own, `lr_scale` 0.2, 14 rounds of 5 steps from uniform noise, 40 epochs: 65.4, noise 68.8, clean 68.1 (n = 1;
    one core of a 2-core x86 CPU), with a loss over 7.14 of 4.24, 4.36, 4.37: the noise was learnt, and content too.
    80 such rounds: 64.8, noise 66.9; 4.06 on its own images, 4.43 on clean ones.
    """

    rounds: int = Field(50, ge=1)
    model_steps: int | None = Field(None, ge=1)  # mini-batches a round that train theta; none: one pass
    noise_steps: int | None = Field(None, ge=1)  # mini-batches a round that move noise; none: one pass
    steps: int = Field(2, ge=1)  # signed steps per mini-batch
    alpha: Levels = Field(0.8 / 255, gt=0, le=1)
    warm_rounds: int = Field(40, ge=0)  # rounds of class maps before; 0: start from uniform noise
    warm_model_steps: int | None = Field(None, ge=1)
    warm_noise_steps: int | None = Field(None, ge=1)


def generate(data: Any, config: Config, tools: Tools) -> Callable[[Tensor], Tensor]:
    """delta(rows) -> (B,3,S,S) in [-eps, eps] with x + delta in [0,1]."""
    alignment.judge(data, tools)
    problem = alignment.pose(data, torch.arange(len(data)), config, tools)
    noise = alignment.search(problem, main(config), starter(problem, config))
    return lambda rows: pgd.project(data.batch(rows), noise[rows], config.eps)


def starter(problem: alignment.Problem, config: Config) -> Callable[[Noise], None]:
    """Fills the first table: with the maps of the classes where there are two or more, else with uniform noise."""
    data, tools = problem.data, problem.tools
    classes = len(data.classes) if data.labels is not None else 0
    if classes < 2 or not config.warm_rounds:
        tools.note("noise_started_from", "uniform noise")
        return lambda table: alignment.uniform(problem, table)
    tools.note("noise_started_from", "class maps")

    def fill(table: Noise) -> None:
        maps = cp_class.maps(data, data.labels, warm(config), config, tools)
        for rows in torch.split(problem.order, alignment.START_BATCH):
            table[rows] = maps[data.labels[rows]]

    return fill


def main(config: Config) -> alignment.Phase:
    return alignment.Phase(
        "image-maps", config.rounds, config.model_steps, config.noise_steps, config.steps, config.alpha
    )


def warm(config: Config) -> alignment.Phase:
    return alignment.Phase(
        "class-maps", config.warm_rounds, config.warm_model_steps, config.warm_noise_steps, WARM_STEPS, WARM_ALPHA
    )


def passes(config: Config, images: int) -> float:
    """Of one view of an image each, class maps included."""
    return alignment.passes(main(config), config, images) + alignment.passes(warm(config), config, images)


def estimate(data: Any, config: Config, tools: Tools) -> float:
    """Seconds, from one timed gradient."""
    return alignment.estimate(data, config, tools, passes(config, len(data)))
