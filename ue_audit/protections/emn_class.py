"""EMN, class-wise: error-minimising noise, one map for every class.

As `emn` with d_i = D of the class of x_i, clipped to the pixel range per image:

    min over theta, min over {D_c}:  1/N sum_i CE(f_theta(x_i + D_{y_i}), y_i),   |D_c| <= eps

Differs from the authors' code: theirs replaces D_c by the mean of moved maps, batch after batch; here the gradients
of a class's images are added up before one signed step (same fixed point, and a small class gets no noisier map).
Otherwise the remedies are those of `emn`. A class map is cheap to find and cheap to remove: the mean image of a
class shows it.
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

SOURCE = "Huang et al., Unlearnable Examples, arXiv 2101.04898, section 3 (class-wise)"
BUDGET = "linf"
NEEDS = ("labels",)


class Config(minmin.Search):
    """Defaults: what protects some thousand small images on a laptop.

    `small`, 15 epochs, 3 training seeds. 4 x 500 images of CIFAR-10, 2 craftings: protected 25.1 % both (chance), noise
    of the same norm 79.8 %, clean 80.1 %; 10 x 500, one crafting: 11.2, 68.7, 69.5 %. 20 rounds, 31 s on one core of a
    2-core x86 CPU with AVX512. Purified without guidance 65.3 % (n = 1).
    """

    share: float = Field(0.2, gt=0, le=1)  # of each class, drawn anew each round, decides a step


def generate(data: Any, config: Config, tools: Tools) -> Callable[[Tensor], Tensor]:
    """delta(rows) -> (B,3,S,S) in [-eps, eps] with x + delta in [0,1]. Raises UsageError without two classes."""
    labels = labels_of(data)
    noise = minmin.search(minmin.pose(data, labels, labels, config, tools), improve)
    return lambda rows: pgd.project(data.batch(rows), noise[labels[rows]], config.eps)


def improve(problem: minmin.Problem, model: nn.Module, before: Noise, after: Noise, number: int) -> None:
    """T signed steps on every class map, each against the summed gradient of the class."""
    config: Config = problem.config  # type: ignore[assignment]
    classes = torch.arange(len(before.table))
    maps = before[classes]  # (K,3,S,S)
    rows = _drawn(problem, config.share, number)
    for step in range(config.steps):
        after[classes] = maps
        slope = torch.zeros_like(maps)
        for batch, some in enumerate(torch.split(rows, minmin.DELTA_BATCH)):
            x, d, y = problem.protected(some, after)
            gradient = problem.gradient(model, y, number, step, batch)
            slope.index_add_(0, problem.labels[some], gradient(x + d).cpu().contiguous())
        maps = (maps - config.alpha * slope.sign()).clamp(-config.eps, config.eps)
    after[classes] = maps


def _drawn(problem: minmin.Problem, share: float, number: int) -> Tensor:
    """`share` of the rows of every class, at least one, drawn for round `number`."""
    labels, rows = problem.labels[problem.order], []
    for label in torch.unique(labels):
        of_class = problem.order[labels == label]
        drawn = torch.randperm(len(of_class), generator=problem.tools.generator("share", number, int(label)))
        rows.append(of_class[drawn[: max(1, round(share * len(of_class)))]])
    return torch.cat(rows)


def passes(config: Config, images: int) -> float:
    """Forward and backward passes of the surrogate per image, in as many rounds as usual."""
    return minmin.passes(config, images, gradients_per_round=config.steps * config.share)


def estimate(data: Any, config: Config, tools: Tools) -> float:
    """Seconds, from one timed gradient."""
    return minmin.estimate(data, config, tools, passes(config, len(data)))
