"""Supervised training from scratch: what an attacker does who takes the images as they come, or augments them.

Cross-entropy, SGD, random crop and flip; no label smoothing, no weight average and no test-time flips, since each
of them could change how readily shortcuts are learnt. The learner does not know whether its data is clean,
protected or purified. With an `augmentation` beside crop and flip it is a countermeasure:

    cutout              a hole in every image
    mixup, cutmix       two images in one, or three: up to `mixes` times, each with a probability
    fast-autoaugment    one of 493 published pairs of operations before crop and flip, a hole after them
    displacement        every pixel from a place near its own (COIN)

`flip_order: alternating` mirrors each image in every second epoch, a random half of them in the first, so that two
epochs show both sides of all (Jordan, arXiv 2404.00498).
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
from ue_audit.training.supervised_fit import Lot

SOURCE = (
    "He et al., arXiv 1512.03385 (ResNet); the CIFAR stem and recipe of the unlearnable-examples literature; as "
    "countermeasures: Cutout arXiv 1708.04552, Mixup 1710.09412, CutMix 1905.04899, Fast AutoAugment 1905.00397, COIN "
    "2311.18403"
)
IN_WORDS = "alters the images at random while training"
NEEDS = ("labels",)


class Config(supervised_fit.Config):
    """Defaults are for a laptop and some thousand images; `resnet18-paper` is the literature's victim.

    4 x 500 images of CIFAR-10: 79.2 % (n = 1), 20 s on one core of a 2-core x86 CPU with AVX512-BF16.
    """

    augmentation: Literal["none", "cutout", "mixup", "cutmix", "fast-autoaugment", "displacement"] = "none"
    hole: float = Field(0.5, ge=0, le=1)  # share of the side; of cutout, and of fast-autoaugment's last step
    mix_alpha: float = Field(1.0, gt=0)  # of mixup and cutmix: the shares are Beta(alpha, alpha)
    mix_probability: float = Field(0.5, ge=0, le=1)  # of mixup and cutmix: that an image is mixed, each time
    mixes: int = Field(2, ge=1)  # of mixup and cutmix: how often an image may be mixed with another
    reach: float = Field(2 / 32, ge=0, le=0.5)  # of displacement, share of the side
    flip_order: Literal["random", "alternating"] = "random"  # by chance every time, or in every second epoch


def counters(config: Config) -> str | None:
    """A victim without augmentation, and its own countermeasure with one."""
    return None if config.augmentation == "none" else "supervised"


def passes(config: Config, images: int) -> float:
    """One of each image in every epoch."""
    return float(config.epochs)


def fit(data: Any, config: Config, tools: Tools) -> Iterator[Epoch]:
    """One `Epoch` after each pass over `data`. Raises UsageError without labels or with one class."""
    images = len(supervised_fit.labels_of(data))
    first = torch.rand(images, generator=tools.generator("mirrored first")) < 0.5  # of alternating flips

    def shown(x: Tensor, lot: Lot) -> Tensor:
        """x, cropped and mirrored."""
        alternating = config.flip and config.flip_order == "alternating"
        mirror = first[lot.rows] ^ bool(lot.epoch % 2) if alternating else None
        return loop.seen(x, config, lot.generator("views"), mirror)

    def learn(model: torch.nn.Module, optimiser: torch.optim.Optimizer, lot: Lot) -> float:
        x, dice = lot.x, lot.generator("augmentation")
        if config.augmentation == "fast-autoaugment":
            x = fast_autoaugment.apply(x, fast_autoaugment.draw(len(x), dice))
        x, y = augmented(shown(x, lot), lot.y, config, dice, len(data.classes))
        return loop.train_step(model, optimiser, x, y)

    return supervised_fit.fit(data, config, tools, learn)


def augmented(x: Tensor, y: Tensor, config: Config, dice: torch.Generator, classes: int) -> tuple[Tensor, Tensor]:
    """What a step learns from crops and mirror images x with classes y (B,): x and y, or y's shares (B,K)."""
    if config.augmentation in ("cutout", "fast-autoaugment"):
        return mixing.cutout(x, config.hole, dice), y
    if config.augmentation == "displacement":
        return displacement.fetch(x, displacement.draw(x, config.reach, dice)), y
    if config.augmentation in ("mixup", "cutmix"):
        return mixed(x, F.one_hot(y, classes).float(), config, dice)
    return x, y


def mixed(x: Tensor, y: Tensor, config: Config, dice: torch.Generator) -> tuple[Tensor, Tensor]:
    """x and y (B,K), each mixed with others up to `mixes` times; shares of y are what is left of each image."""
    mix_two = mixing.mixup if config.augmentation == "mixup" else mixing.cutmix
    alone, one_hot = x, y
    for _ in range(config.mixes):
        mix = mixing.draw(len(x), config.mix_alpha, config.mix_probability, dice)
        partner = mix.partner.to(x.device)
        x, lam = mix_two(x, alone[partner], mix)
        y = torch.lerp(one_hot[partner], y, lam[:, None])  # cross-entropy is linear in it: the sum over both labels
    return x, y
