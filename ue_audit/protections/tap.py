"""TAP: targeted adversarial poisoning, also called adversarial examples as poison.

A network is trained on the clean images and frozen; then every image is moved until it looks like the next class,
and keeps its label. Who trains on it learns the features of one class under the name of another:

    d_i = argmin CE(f_theta(t(x_i + d)), pi(y_i)),   |d| <= eps,   t a fresh random crop and flip at every step

pi is a permutation of the classes that maps none onto itself. `goal: untargeted` raises CE(f(.), y_i) instead.
Differs from the authors' code: the best of several starts is chosen for every image, not once for the whole set;
crops are by whole pixels; there is no normalisation by a data set's mean and deviation; a surrogate that learnt too
little is refused. Defaults take fewer and larger steps from one start. The noise depends on names and seed, not on
the order of the files.
"""

from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor

from ue_audit.tools import Tools
from ue_audit.training import surrogate, targeted
from ue_audit.training.rows import labels_of

SOURCE = "Fowl et al., Adversarial Examples Make Strong Poisons, arXiv 2106.10807, section 3"
BUDGET = "linf"
NEEDS = ("labels",)


class Config(targeted.Settings):
    """Defaults: what protects some thousand small images on a laptop.

    4 x 500 images of CIFAR-10, `small`, 15 epochs, 2 craftings x 3 training seeds: protected 32.8 / 33.4 % in the last
    epoch (57.9 % at best), noise of the same norm 80.0 / 80.5 %, clean 80.1 %. Against `small`, which is hard to fool
    within 8 levels, 45.0 %; `goal: untargeted` against it 55.6 % (one crafting each; H100, the second on a CPU).
    """

    surrogate: Literal["small", "small-fine", "resnet18"] = "small-fine"
    goal: Literal["targeted", "untargeted"] = "targeted"
    permutation: targeted.Permutation = "next"  # of the classes by name: the next one, half-way round, or drawn
    start: Literal["normal", "uniform", "zero"] = "normal"


def generate(data: Any, config: Config, tools: Tools) -> Callable[[Tensor], Tensor]:
    """delta(rows) -> (B,3,S,S) in [-eps, eps] with x + delta in [0,1]. Raises UsageError."""
    labels = labels_of(data)
    view = surrogate.cropped(config)
    (network,) = surrogate.train(data, labels, config, tools, view)
    sign = 1 if config.goal == "targeted" else -1
    targets = targeted.permutation(data.classes, config.permutation, tools)[labels] if sign > 0 else labels
    aim = targeted.Aim(
        data, targets, [lambda u, y: sign * surrogate.cross_entropy(network, u, y)], view, config, tools
    )
    noise = targeted.craft(aim)
    hits = targeted.hits(aim, noise, network)
    tools.note("poison_accuracy", hits if sign > 0 else 1 - hits)  # share the surrogate names as wished
    return targeted.delta(aim, noise)


def passes(config: Config, images: int) -> float:
    """Forward and backward passes per image."""
    return targeted.passes(config, images)


def estimate(data: Any, config: Config, tools: Tools) -> float:
    """Seconds, from one timed gradient."""
    return targeted.estimate(data, config, tools, surrogate.cropped(config), passes(config, len(data)))
