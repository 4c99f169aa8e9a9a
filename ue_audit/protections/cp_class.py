"""CP-C: contrastive poisoning, one map for every class, against training without labels.

Whoever learns from unlabelled images trains an encoder to recognise two views of one image. The noise D of a class
makes views of its images match by itself, so that the encoder has nothing to learn from what they show:

    min over theta, min over {D_c}:  E L(f_theta; T(x_i + D_{y_i}), T'(x_i + D_{y_i})),   |D_c| <= eps

with L of SimCLR, MoCo v2 or BYOL, and T, T' their random views, through which the gradient flows. Differs from the
authors' code: EMA and queue stand still while noise moves (theirs go on in every forward pass), BYOL's target branch
passes its gradient on to the noise (theirs detaches it within the loss), gradients of a class are not cut off where a
pixel is clipped, one device is enough, and `resnet18` takes pixels as they are, not normalised. Start: U(-eps, eps).

Labels are needed to craft; who trains on the images needs none. Measure it with a linear probe fitted to CLEAN
labelled images, as the publication does.
"""

from collections.abc import Callable
from typing import Any

from pydantic import Field
from torch import Tensor

from ue_audit.config import Levels
from ue_audit.tools import Tools
from ue_audit.training import alignment, pgd
from ue_audit.training.noise import Noise
from ue_audit.training.rows import labels_of

SOURCE = "He, Zha and Katabi, Indiscriminate Poisoning Attacks on Unsupervised Contrastive Learning, arXiv 2202.11202"
BUDGET = "linf"
NEEDS = ("labels",)


class Config(alignment.Poison):
    """Defaults: some thousand small images on a laptop; **unmeasured**. The following hardly protect (see `alignment`).

    4 x 500 images of CIFAR-10, SimCLR, ResNet-18 crafting (150 rounds, `lr_scale` 1) and learning (100 epochs): the
    probe has 69.7 and 71.7 %, 68.7 on clean images (n = 1 each). A small net with a plain stem, `lr_scale` 0.4, 24
    rounds of 2 steps: 64.5, with noise of equal size 66.8, clean 65.3 (n = 1; one core of a 2-core x86 CPU).
    """

    rounds: int = Field(80, ge=1)
    model_steps: int | None = Field(None, ge=1)  # mini-batches a round that train theta; none: one pass
    noise_steps: int | None = Field(None, ge=1)  # mini-batches a round that move noise; none: one pass
    steps: int = Field(1, ge=1)  # signed steps per mini-batch
    alpha: Levels = Field(0.8 / 255, gt=0, le=1)


def generate(data: Any, config: Config, tools: Tools) -> Callable[[Tensor], Tensor]:
    """delta(rows) -> (B,3,S,S) in [-eps, eps] with x + delta in [0,1]. Raises UsageError without two classes."""
    labels = labels_of(data)
    alignment.judge(data, tools)
    noise = maps(data, labels, phase(config), config, tools)
    return lambda rows: pgd.project(data.batch(rows), noise[labels[rows]], config.eps)


def maps(data: Any, labels: Tensor, phase: alignment.Phase, config: alignment.Poison, tools: Tools) -> Noise:
    """A map for every class, from uniform noise."""
    problem = alignment.pose(data, labels, config, tools)
    return alignment.search(problem, phase, lambda table: alignment.uniform(problem, table))


def phase(config: Config) -> alignment.Phase:
    return alignment.Phase(
        "class-maps", config.rounds, config.model_steps, config.noise_steps, config.steps, config.alpha
    )


def passes(config: Config, images: int) -> float:
    """Of one view of an image each."""
    return alignment.passes(phase(config), config, images)


def estimate(data: Any, config: Config, tools: Tools) -> float:
    """Seconds, from one timed gradient."""
    return alignment.estimate(data, config, tools, passes(config, len(data)))
