"""BYOL, then a probe: an exploiter who needs neither labels nor images to contrast with.

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
    "Grill et al., Bootstrap Your Own Latent, arXiv 2006.07733; "
    "as a victim, and its probe: He et al., arXiv 2202.11202 (contrastive poisoning)"
)
IN_WORDS = "trains without labels, on altered copies of the images"
NEEDS = ("labels",)


class Config(contrastive_fit.Config):
    """Defaults are for a laptop and some thousand images, and **unverified**; `byol-paper` is the literature's victim.

    At an `lr_scale` of 0.1, these 40 epochs teach the network little from 4 x 500 images of CIFAR-10: 64.0 % by the
    linear probe, 57.0 by neighbours on a validation set of 400 (n = 1), 62.5 untrained; 94 s of one core of a busy x86
    CPU. The default gives the rate, times the scale of the loss, at which SimCLR was first measured: not run.
    """

    lr_scale: float = Field(0.2, gt=0)


def counters(config: Config) -> str | None:
    """A victim, unless its views are hardened."""
    return contrastive_fit.counters("byol", config)


def passes(config: Config, images: int) -> float:
    """In every epoch two views of each image, and both forward through the target; the probes' are left out."""
    return (2 + 2 * FORWARD) * config.epochs


def fit(data: Any, config: Config, tools: Tools) -> Iterator[Epoch]:
    """One `Epoch` after each probe; see `contrastive_fit.fit`."""
    return contrastive_fit.fit("byol", data, config, tools)
