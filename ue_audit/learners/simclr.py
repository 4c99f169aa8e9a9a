"""SimCLR, then a probe: an exploiter who needs no labels to learn from images.

The loop and what differs from the authors' code are in `training.contrastive_fit`, the loss and the networks in
`training.contrastive`, the probe, and what it is fitted on, in `training.probe`.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from ue_audit.tools import Epoch, Tools
from ue_audit.training import contrastive_fit

SOURCE = (
    "Chen et al., A Simple Framework for Contrastive Learning, arXiv 2002.05709; "
    "as a victim, and its probe: He et al., arXiv 2202.11202 (contrastive poisoning)"
)
IN_WORDS = "trains without labels, on altered copies of the images"
NEEDS = ("labels",)


class Config(contrastive_fit.Config):
    """Defaults are for a laptop and some thousand images; `simclr-paper` is the literature's victim.

    4 x 500 images of CIFAR-10, a test set of 1,000 (n = 1): 68.8 % by the linear probe, 66.7 % by `simclr-knn`, 68 s of
    one core of a busy 2-core x86 CPU. The same network untrained has 63.9 +- 0.9 and 52.1 +- 0.1 (n = 3, sd), `small`
    65.7 and 51.5: a linear probe reads much off random features, so that neighbours show better what was learnt. An
    `lr_scale` of 0.05 had 70.5, of 0.3 67.0 (n = 1) on 400 other images; the published 1 is for ResNet-18.
    """

    lr_scale: float = Field(0.05, gt=0)


def counters(config: Config) -> str | None:
    """A victim, unless its views are hardened."""
    return contrastive_fit.counters("simclr", config)


def passes(config: Config, images: int) -> float:
    """Two views of each image in every epoch; the probes' are left out."""
    return 2.0 * config.epochs


def fit(data: Any, config: Config, tools: Tools) -> Iterator[Epoch]:
    """One `Epoch` after each probe; see `contrastive_fit.fit`."""
    return contrastive_fit.fit("simclr", data, config, tools)
