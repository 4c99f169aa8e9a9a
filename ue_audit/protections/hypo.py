"""HYPO: hypocritical perturbations. EMN's noise against a network that was trained on the clean images beforehand.

Every image is moved to where a frozen network is still surer of its true class:

    d_i = argmin CE(f_theta(x_i + d), y_i),   |d| <= eps,   from d = 0

It deceives adversarial training, whose worst cases it undoes; plain training still learns from the images, and the
manifest warns of it. Differs from the authors' code: the surrogate is trained plainly, while theirs is lightly
adversarial (10 epochs at 2/255). Crops and flips are seen in training alone. The noise depends on names and seed, not
on the order of the files.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ue_audit.tools import Tools
from ue_audit.training import surrogate, targeted
from ue_audit.training.rows import labels_of

SOURCE = "Tao et al., Can Adversarial Training Be Manipulated By Non-Robust Features?, arXiv 2201.13329"
BUDGET = "linf"
NEEDS = ("labels",)
WARNING = (
    "HYPO hardly protects against plain training (published: 72 % where clean images give 95); it is meant to spoil "
    "adversarial training: against others prefer emn or tap"
)


class Config(targeted.Settings):
    """Defaults: some thousand small images on a laptop."""


def generate(data: Any, config: Config, tools: Tools) -> Callable[[Tensor], Tensor]:
    """delta(rows) -> (B,3,S,S) in [-eps, eps] with x + delta in [0,1]. Raises UsageError."""
    labels = labels_of(data)
    (network,) = surrogate.train(data, labels, config, tools, surrogate.cropped(config))
    aim = targeted.Aim(data, labels, [lambda u, y: surrogate.cross_entropy(network, u, y)], whole, config, tools)
    noise = targeted.craft(aim)
    tools.note("surrogate_accuracy_protected", targeted.hits(aim, noise, network))
    tools.warn(WARNING)
    return targeted.delta(aim, noise)


def whole(x: Tensor, generator: torch.Generator) -> Tensor:
    """The image itself, not a view of it."""
    return x


def passes(config: Config, images: int) -> float:
    """Forward and backward passes per image."""
    return targeted.passes(config, images)


def estimate(data: Any, config: Config, tools: Tools) -> float:
    """Seconds, from one timed gradient."""
    return targeted.estimate(data, config, tools, whole, passes(config, len(data)))
