"""Own images alone: supervised training on the attacker's m clean labelled images, without the given ones.

What an attacker reaches who leaves the given images aside. Whatever uses the m images as well (`dfr`, `dilution`, or a
purifier fitted on them) shows that the given images are of use only by as much as it beats this.

Of the given images nothing counts but their number N: an epoch shows N own images (m, if there are more), each the same
number of times but for one, so that there are as many steps as `supervised` takes on N images and few images are
not too few steps.

Measured, 4 classes of CIFAR-10, N = 2,000 (n = 1; `supervised` on clean images about 80 %): m = 500 71.3 %, m = 100
55.6 %.
"""

from collections.abc import Iterator
from typing import Any

import torch

from ue_audit.tools import Epoch, Tools
from ue_audit.training import supervised_fit
from ue_audit.training.joined import Joined, own_of

SOURCE = "the attacker without the published images; the recipe of `supervised`"
IN_WORDS = "trains on clean pictures of their own alone"
NEEDS = ("own",)
REFERENCE = True  # trains without the published images: no countermeasure, but what one must beat


class Config(supervised_fit.Config):
    """The recipe of `supervised`."""


def passes(config: Config, images: int) -> float:
    """As many as `supervised` takes, of own images."""
    return float(config.epochs)


def fit(data: Any, config: Config, tools: Tools) -> Iterator[Epoch]:
    """One `Epoch` after each len(data) own images. Raises UsageError without own images of two classes or more."""
    own = own_of(data, "training on own images alone")
    tools.note("own_images", len(own))
    shown = max(len(data), len(own))
    spread = torch.arange(shown) * len(own) // shown  # every class as often as every other, whatever the remainder
    return supervised_fit.fit(Joined([own], spread), config, tools)
