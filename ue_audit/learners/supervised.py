"""Supervised training from scratch: what an attacker does who takes the images as they come, or augments them.

Cross-entropy, SGD, random crop and flip; no label smoothing, no weight average and no test-time flips, since each
of them could change how readily shortcuts are learnt. The learner does not know whether its data is clean,
protected or purified. With an `augmentation` beside crop and flip it is a countermeasure:

    cutout              a hole in every image
    mixup, cutmix       two images in one, with a probability for every batch
    fast-autoaugment    one of 493 published pairs of operations before crop and flip, a hole after them
    displacement        every pixel from a place near its own (COIN)
"""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ue_audit.tools import Epoch, Tools
from ue_audit.training import displacement, fast_autoaugment, mixing, supervised_fit
from ue_audit.training import fit as loop
from ue_audit.training.supervised_fit import Learn, Lot

SOURCE = (
    "He et al., arXiv 1512.03385 (ResNet); the CIFAR stem and recipe of the unlearnable-examples literature; as "
    "countermeasures: Cutout arXiv 1708.04552, Mixup 1710.09412, CutMix 1905.04899, Fast AutoAugment 1905.00397, COIN "
    "2311.18403"
)
NEEDS = ("labels",)


class Config(supervised_fit.Config):
    """Defaults are for a laptop and some thousand images; `resnet18-paper` is the literature's victim.

    4 x 500 images of CIFAR-10: 79.2 % (n = 1), 20 s on one core of a 2-core x86 CPU with AVX512-BF16.
    """

    augmentation: Literal["none", "cutout", "mixup", "cutmix", "fast-autoaugment", "displacement"] = "none"
    hole: float = Field(0.5, ge=0, le=1)  # share of the side; of cutout, and of fast-autoaugment's last step
    mix_alpha: float = Field(1.0, gt=0)  # of mixup and cutmix: the shares are Beta(alpha, alpha)
    mix_probability: float = Field(0.5, ge=0, le=1)  # of mixup and cutmix: that a batch is mixed
    reach: float = Field(2 / 32, ge=0, le=0.5)  # of displacement, share of the side


def counters(config: Config) -> str | None:
    """A victim without augmentation, and its own countermeasure with one."""
    return None if config.augmentation == "none" else "supervised"


def passes(config: Config, images: int) -> float:
    """One of each image in every epoch."""
    return float(config.epochs)


def fit(data: Any, config: Config, tools: Tools) -> Iterator[Epoch]:
    """One `Epoch` after each pass over `data`. Raises UsageError without labels or with one class."""
    mixed = config.augmentation in ("mixup", "cutmix")
    learn = mixing_step(config, len(data.classes)) if mixed else augmenting_step(config)
    return supervised_fit.fit(data, config, tools, learn)


def augmenting_step(config: Config) -> Learn:
    """A step on crops and mirror images, and what the augmentation does to each."""

    def learn(model: torch.nn.Module, optimiser: torch.optim.Optimizer, lot: Lot) -> float:
        return loop.train_step(model, optimiser, seen(lot, config), lot.y)

    return learn


def seen(lot: Lot, config: Config) -> Tensor:
    """The batch as this step sees it."""
    x, dice = lot.x, lot.generator("augmentation")
    if config.augmentation == "fast-autoaugment":
        x = fast_autoaugment.apply(x, fast_autoaugment.draw(len(x), dice))
    x = loop.seen(x, config, lot.generator("views"))
    if config.augmentation in ("cutout", "fast-autoaugment"):
        x = mixing.cutout(x, config.hole, dice)
    if config.augmentation == "displacement":
        x = displacement.displace(x, config.reach, dice)
    return x


def mixing_step(config: Config, classes: int) -> Learn:
    """A step on pairs of images: lam CE(., y) + (1 - lam) CE(., y of the partner), as one cross-entropy."""
    mix_two = mixing.mixup if config.augmentation == "mixup" else mixing.cutmix

    def learn(model: torch.nn.Module, optimiser: torch.optim.Optimizer, lot: Lot) -> float:
        x, dice = loop.seen(lot.x, config, lot.generator("views")), lot.generator("augmentation")
        if float(torch.rand((), generator=dice)) >= config.mix_probability:
            return loop.train_step(model, optimiser, x, lot.y)
        mix = mixing.draw(len(x), config.mix_alpha, dice)
        x, lam = mix_two(x, mix)
        y = F.one_hot(lot.y, classes).float()
        return loop.train_step(model, optimiser, x, torch.lerp(y[mix.partner.to(y.device)], y, lam))

    return learn
