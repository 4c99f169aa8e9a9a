"""Supervised training from scratch: what an attacker does who takes the images as they come.

Cross-entropy, SGD, random crop and flip; no label smoothing, no weight average and no test-time flips, since each
of them could change how readily shortcuts are learnt. The learner does not know whether its data is clean,
protected or purified.
"""

from collections.abc import Iterator
from typing import Any

from ue_audit.tools import Epoch, Tools
from ue_audit.training import supervised_fit

SOURCE = "He et al., arXiv 1512.03385 (ResNet); the CIFAR stem and recipe of the unlearnable-examples literature"
NEEDS = ("labels",)


class Config(supervised_fit.Config):
    """Defaults are for a laptop and some thousand images; `resnet18-paper` is the literature's victim.

    4 x 500 images of CIFAR-10: 79.2 % (n = 1), 20 s on one core of a 2-core x86 CPU with AVX512-BF16.
    """


def passes(config: Config, images: int) -> float:
    """One of each image in every epoch."""
    return float(config.epochs)


def fit(data: Any, config: Config, tools: Tools) -> Iterator[Epoch]:
    """One `Epoch` after each pass over `data`. Raises UsageError without labels or with one class."""
    return supervised_fit.fit(data, config, tools)
