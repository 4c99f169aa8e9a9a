"""Dilution: supervised training on the given images and the attacker's own clean ones, as one set.

Protected images are poor teachers, not bad ones: the least an attacker with m clean labelled images can do is to add
them. A countermeasure that needs m of them must beat this, and `own_only`. Published for CIFAR-10 at 40,000 protected
images, ResNet-18, 120 epochs (BridgePure): 49 % with m = 500, 80 % with m = 4,000.

The recipe is that of `supervised`; a pass is over both sets, own images `repeats` times in it, once in the published
figures. So training takes 1 + repeats m / N as many steps.

Measured, 4 x 500 images of CIFAR-10, network `small` (n = 1, chance 25 %): EMN 26.2 %, with m = 500 70.0, with 100
49.3; AR 27.3 %, then 70.5 and 60.9; `own_only` 71.3 and 55.6. There the given images add little to own ones.
"""

from collections.abc import Iterator
from typing import Any

import torch
from pydantic import Field

from ue_audit.tools import Epoch, Tools
from ue_audit.training import supervised_fit
from ue_audit.training.joined import Joined, own_of

SOURCE = "the baseline of BridgePure (Wang et al.), arXiv 2412.21061"
IN_WORDS = "mixes in clean pictures of their own"
NEEDS = ("labels", "own")


class Config(supervised_fit.Config):
    """The recipe of `supervised`, and how often an own image comes in a pass."""

    repeats: int = Field(1, ge=1)


def counters(config: Config) -> str:
    return "supervised"


def passes(config: Config, images: int) -> float:
    """One of each image in every epoch; those of own images come on top."""
    return float(config.epochs)


def fit(data: Any, config: Config, tools: Tools) -> Iterator[Epoch]:
    """One `Epoch` after each pass over both sets. Raises UsageError without labels or own images."""
    supervised_fit.labels_of(data)
    own = own_of(data, "dilution")
    tools.note("own_images", len(own))
    rows = torch.arange(len(data) + len(own))
    again = rows[len(data) :].repeat(config.repeats - 1)
    return supervised_fit.fit(Joined([data, own], torch.cat([rows, again])), config, tools)
