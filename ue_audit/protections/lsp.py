"""LSP: linearly separable synthetic perturbations. No network is trained.

Every image gets a vector v from a Gaussian cluster of its class, whose centre is a vertex of a hypercube; each
coordinate becomes a constant patch, and the whole is scaled to one L2 norm:

    v = A_c z + m_c,   z ~ N(0, I),   m_c in {-s, +s}^F,   A_c ~ U(-1, 1)^(F x F),   d = r * tile(v) / ||tile(v)||_2

A network learns the patches first, being linear, and stops there. Differs from the authors' code: an own generator
per class and per image (any balance, any size; adding files changes no other image), and r = 1.0 at 32 px as in the
audited literature (theirs works out at 1.304), grown with the side so that the change per pixel stays the same. Images
of another size than the working one get their patches stretched to it. Grey photographs are treated as colour ones.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ue_audit.config import Config as Base
from ue_audit.errors import UsageError
from ue_audit.tools import Tools
from ue_audit.training.rows import labels_of

SOURCE = "Yu et al., Availability Attacks Create Shortcuts, arXiv 2111.00898, section 4"
BUDGET = "l2"
NEEDS = ("labels",)
REFERENCE_SIDE = 32
ENOUGH_IMAGES = 10_000
EVIDENCE = (
    "accuracy fell from 80 to 68 % on 4 x 500 images of CIFAR-10 and from 70 to 44 % on 10 x 500 (a small network, 3 "
    "trainings each), from 91 to 35 % on 50,000 (ResNet-18, one)"
)


class Config(Base):
    l2: float = Field(1.0, ge=0)  # norm of the change of a 32 px image, in [0,1] units; scaled with the side
    patch: int = Field(8, ge=1)  # side of a patch at 32 px, in pixels; scaled with the side
    separation: float = Field(10.0, gt=0)  # s: distance of a centre from the origin, per coordinate


@dataclass(frozen=True)
class Patches:
    """d of any rows, at the working size or an image's own."""

    data: Any
    labels: Tensor  # (N,)
    centres: Tensor  # (K,F)
    spreads: Tensor  # (K,F,F)
    patch: int  # at the working size
    l2: float
    tools: Tools

    def __call__(self, rows: Tensor) -> Tensor:
        return self._at(rows, self.data.size, self.data.size)

    def native(self, row: int, x: Tensor) -> Tensor:
        """d of one image x (3,H,W) at its own size: the patches it has at the working size, stretched."""
        return self._at(torch.tensor([row]), x.shape[-2], x.shape[-1])[0]

    def _at(self, rows: Tensor, height: int, width: int) -> Tensor:
        grid = -(-self.data.size // self.patch)
        points = self._points(rows).view(-1, 3, grid, grid)
        down, across = self._patches_of(height), self._patches_of(width)
        pixels = torch.outer(down.bincount(minlength=grid), across.bincount(minlength=grid))  # (G,G) of each patch
        norms = (points.square() * pixels).sum((1, 2, 3), keepdim=True).sqrt()
        radius = self.l2 * math.sqrt(height * width) / REFERENCE_SIDE
        return (radius * points / norms).float().index_select(3, across).index_select(2, down)

    def _points(self, rows: Tensor) -> Tensor:
        """v = A z + m, one draw of its class's cluster for every image. (B,F) float64, or batches would round apart."""
        draws = [self.tools.generator("point", self.data.keys[row]) for row in rows.tolist()]
        features = self.centres.shape[1]
        z = torch.stack([torch.randn(features, generator=generator) for generator in draws]).double()
        labels, points = self.labels[rows], torch.empty_like(z)
        for label in torch.unique(labels).tolist():
            points[labels == label] = z[labels == label] @ self.spreads[label].T + self.centres[label]
        return points

    def _patches_of(self, side: int) -> Tensor:
        """The patch, along one axis, of every pixel of a side. (side,)"""
        patches: Tensor = (2 * torch.arange(side) + 1) * self.data.size // (2 * side) // self.patch
        return patches


def generate(data: Any, config: Config, tools: Tools) -> Callable[[Tensor], Tensor]:
    """delta(rows) -> (B,3,S,S) of norm l2 * S / 32. Raises UsageError without two classes or with too few patches."""
    labels = labels_of(data)
    patch = max(1, round(config.patch * data.size / REFERENCE_SIDE))
    features = 3 * (-(-data.size // patch)) ** 2
    if 2**features < len(data.classes):
        raise UsageError(f"patch = {config.patch} leaves {features} features, too few for {len(data.classes)} classes")
    centres, spreads = _clusters(data.classes, features, config.separation, tools)
    _judge(labels, tools)
    return Patches(data, labels, centres, spreads, patch, config.l2, tools)


def _clusters(classes: Any, features: int, separation: float, tools: Tools) -> tuple[Tensor, Tensor]:
    """m (K,F) and A (K,F,F), of each class from a generator named after it; no two centres are equal."""
    centres: list[Tensor] = []
    spreads: list[Tensor] = []
    for name in classes:
        generator = tools.generator("cluster", name)
        centre = _vertex(features, separation, generator)
        while any(torch.equal(centre, other) for other in centres):
            centre = _vertex(features, separation, generator)
        centres.append(centre)
        spreads.append(2 * torch.rand(features, features, generator=generator) - 1)
    return torch.stack(centres).double(), torch.stack(spreads).double()


def _vertex(features: int, separation: float, generator: torch.Generator) -> Tensor:
    signs: Tensor = 2.0 * torch.randint(2, (features,), generator=generator) - 1
    return signs * separation


def _judge(labels: Tensor, tools: Tools) -> None:
    """A warning for sets so small that LSP was seen to depend on the network that is trained."""
    if len(labels) < ENOUGH_IMAGES:
        warning = (
            f"LSP may hardly protect {len(labels)} images: {EVIDENCE}; below {ENOUGH_IMAGES:,} images prefer emn or "
            "emn_class, and see what is left with `evaluate`"
        )
        tools.warn(warning)


def passes(config: Config, images: int) -> float:
    """None: no network takes part."""
    return 0.0


def estimate(data: Any, config: Config, tools: Tools) -> float:
    """Seconds: one small product of a matrix and a vector per image, then its patches."""
    return len(data) * (1e-5 + 5e-9 * float(data.size) ** 2)
