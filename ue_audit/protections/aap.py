"""AAP: adversarial poisoning by strongly augmented views, against supervised and contrastive victims at once.

As `tap`, with SimCLR's views (crop and resize, flip, colour jitter, grayscale) in place of small crops, both when the
network is trained and when the images are moved:

    d_i = argmin CE(f_theta(t(x_i + d)), pi(y_i)),   |d| <= eps,   t a fresh view of strength s at every step

Noise that survives such views is what a contrastive learner, too, takes for the content of an image, and grayscale is
among them. Differs from the authors' code: a surrogate that learnt too little is refused, and of several starts every
image keeps its own best. Defaults take fewer steps. The noise depends on names and seed, not on the order of files.
"""

from collections.abc import Callable
from typing import Any

from pydantic import Field
from torch import Tensor

from ue_audit.tools import Tools
from ue_audit.training import surrogate, targeted, views
from ue_audit.training.rows import labels_of

SOURCE = "Wang et al., Efficient Availability Attacks against Supervised and Contrastive Learning, arXiv 2402.04010"
BUDGET = "linf"
NEEDS = ("labels",)


class Config(targeted.Settings):
    """Defaults: what protects some thousand small images on a laptop. `crop` and `flip` have no effect here.

    4 x 500 images of CIFAR-10, `small`, 15 epochs, 3 training seeds: protected 50.6 %, noise of the same norm 79.8 %,
    clean 80.1 % (one crafting, H100).
    """

    strength: float = Field(0.4, ge=0, le=1)  # s of the views: 0.4 for CIFAR-10, 0.8 for CIFAR-100 in the paper
    permutation: targeted.Permutation = "next"  # of the classes by name: the next one, half-way round, or drawn
    epochs: int = Field(40, ge=1)  # strong views take longer to learn


def generate(data: Any, config: Config, tools: Tools) -> Callable[[Tensor], Tensor]:
    """delta(rows) -> (B,3,S,S) in [-eps, eps] with x + delta in [0,1]. Raises UsageError."""
    labels, view = labels_of(data), strong(config)
    (network,) = surrogate.train(data, labels, config, tools, view)
    targets = targeted.permutation(data.classes, config.permutation, tools)[labels]
    aim = targeted.Aim(data, targets, [lambda u, y: surrogate.cross_entropy(network, u, y)], view, config, tools)
    noise = targeted.craft(aim)
    tools.note("poison_accuracy", targeted.hits(aim, noise, network))  # share put into the target class
    return targeted.delta(aim, noise)


def strong(config: Config) -> surrogate.View:
    """SimCLR's views of the configured strength."""
    settings = views.Views.of_strength(config.strength)
    return lambda x, generator: views.view(x, settings, generator)


def passes(config: Config, images: int) -> float:
    """Forward and backward passes per image."""
    return targeted.passes(config, images)


def estimate(data: Any, config: Config, tools: Tools) -> float:
    """Seconds, from one timed gradient."""
    return targeted.estimate(data, config, tools, strong(config), passes(config, len(data)))
