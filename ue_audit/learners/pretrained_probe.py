"""A pretrained encoder, frozen, and a linear classifier of its features fitted on the given images and labels.

    min over W, b of  mean_i CE(W h(x_i) + b, y_i) + probe_decay/2 |W|^2

Most protections are made against training from scratch. Features that were learnt elsewhere, from clean images, cannot
follow a shortcut that they do not see; a linear layer can follow one that they do. Two papers of 2026 report that
earlier protections fail here. The attacker needs the weights of an encoder and no clean image of these classes.

Images are brought to the encoder's side and taken as they are, features are standardised, the problem is convex and
solved to the end (`training/probe.py`): nothing is drawn, so that all seeds agree.

Measured with SqueezeNet 1.1 at 224 pixels on 4 x 500 images of CIFAR-10 (chance 25 %): clean 91.3 %, EMN 74.6, AR 89.1,
OPS 87.1, where `supervised` has about 80, 26, 27 and 50 (n = 1). The side matters: at 96 pixels clean 88.3, EMN 85.4.
A probe decay of 1e-3 costs up to 4 points (EMN 70.5).
"""

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ue_audit.tools import Epoch, Tools
from ue_audit.training import encoders, probe, supervised_fit, transfer
from ue_audit.training.cost import FORWARD

SOURCE = "the pretrained baseline of BAIT, arXiv 2603.04731, and SSC, arXiv 2605.05224; a linear probe"
IN_WORDS = "takes a network that was trained on many other pictures, and fits only its last layer"
NEEDS = ("labels", "encoder")


class Config(transfer.Source):
    """The encoder, and the one constant of the probe."""

    probe_decay: float = Field(0.1, ge=0)


def counters(config: Config) -> str:
    return "supervised"


def passes(config: Config, images: int) -> float:
    """One forward pass of each image."""
    return FORWARD


def require(config: Config, tools: Tools) -> None:
    """Raises what loading the encoder raises."""
    transfer.load(config, tools)


def fit(data: Any, config: Config, tools: Tools) -> Iterator[Epoch]:
    """One `Epoch`. Raises UsageError without labels, ResourceError without weights."""
    y, encoder = supervised_fit.labels_of(data), transfer.load(config, tools)
    h = torch.from_numpy(encoders.features(encoder, data, torch.arange(len(data)), tools))
    line = probe.logistic(h, y, len(data.classes), config.probe_decay)
    loss = float(F.cross_entropy(F.linear(h, *line), y))
    yield Epoch(1, loss, partial(_classify, encoder, probe.Line(*(part.to(tools.device) for part in line)), tools))


def _classify(encoder: encoders.Encoder, line: probe.Line, tools: Tools, x: Tensor) -> Tensor:
    with torch.no_grad():
        return F.linear(transfer.read(encoder, x.to(tools.device)), *line)
