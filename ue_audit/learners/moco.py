"""MoCo v2, then a probe: an exploiter who needs no labels, nor large batches.

The loop and what differs from the authors' code are in `training.contrastive_fit`, the loss and the networks in
`training.contrastive`, the probe, and what it is fitted on, in `training.probe`.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from ue_audit.tools import Epoch, Tools
from ue_audit.training import contrastive_fit
from ue_audit.training.cost import FORWARD

SOURCE = (
    "Chen et al., Improved Baselines with Momentum Contrastive Learning, arXiv 2003.04297; "
    "as a victim, and its probe: He et al., arXiv 2202.11202 (contrastive poisoning)"
)
IN_WORDS = "trains without labels, on altered copies of the images"
NEEDS = ("labels",)


class Config(contrastive_fit.Config):
    """Defaults are for a laptop and some thousand images; `moco-paper` is the literature's victim.

    4 x 500 images of CIFAR-10, a validation set of 400 (n = 1): 70.0 % by the linear probe and 66.3 % by neighbours,
    58 s of one core of a busy 2-core x86 CPU; 70.7 and 64.0 at an `lr_scale` of 0.1. See `simclr` for the same network
    untrained.
    """

    lr_scale: float = Field(0.5, gt=0)


def counters(config: Config) -> str | None:
    """A victim, unless its views are hardened."""
    return contrastive_fit.counters("moco", config)


def passes(config: Config, images: int) -> float:
    """In every epoch one view of each image, and another forward only; the probes' are left out."""
    return (1 + FORWARD) * config.epochs


def fit(data: Any, config: Config, tools: Tools) -> Iterator[Epoch]:
    """One `Epoch` after each probe; see `contrastive_fit.fit`."""
    return contrastive_fit.fit("moco", data, config, tools)
