"""LSP: linearly separable synthetic perturbations. No network is trained.

Every image gets a vector v from a Gaussian cluster of its class, whose centre is a vertex of a hypercube; each
coordinate becomes a constant patch, and the whole is scaled to one L2 norm:

    v = A_c z + m_c,   z ~ N(0, I),   m_c in {-s, +s}^F,   A_c ~ U(-1, 1)^(F x F),   d = r * tile(v) / ||tile(v)||_2

A network learns the patches first, being linear, and stops there. Differs from the authors' code: an own generator
per class and per image (any balance, any size; adding files changes no other image), and r = 1.0 at 32 px as in the
audited literature (theirs works out at 1.304), grown with the side so that the change per pixel stays the same.
"""

from collections.abc import Callable
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ue_audit.config import Config as Base
from ue_audit.errors import UsageError
from ue_audit.tools import Tools
from ue_audit.training.minmin import labels_of

SOURCE = "Yu et al., Availability Attacks Create Shortcuts, arXiv 2111.00898, section 4"
BUDGET = "l2"
REFERENCE_SIDE = 32
ENOUGH_IMAGES = 10_000
EVIDENCE = (
    "on 4 x 500 images of CIFAR-10 it took one small network from 81 to 63 % and another from 75 to 71 % (one run "
    "each); the published effect, to 15 %, is for 50,000"
)


class Config(Base):
    l2: float = Field(1.0, ge=0)  # norm of the change of a 32 px image, in [0,1] units; scaled with the side
    patch: int = Field(8, ge=1)  # side of a patch at 32 px, in pixels; scaled with the side
    separation: float = Field(10.0, gt=0)  # s: distance of a centre from the origin, per coordinate


def generate(data: Any, config: Config, tools: Tools) -> Callable[[Tensor], Tensor]:
    """delta(rows) -> (B,3,S,S) of norm l2 * S / 32, less what leaves the pixel range. Raises UsageError."""
    labels = labels_of(data)
    patch = max(1, round(config.patch * data.size / REFERENCE_SIDE))
    grid = -(-data.size // patch)
    features = 3 * grid * grid
    if 2**features < len(data.classes):
        raise UsageError(f"patch = {config.patch} leaves {features} features, too few for {len(data.classes)} classes")
    clusters = _clusters(data.classes, features, config.separation, tools)
    radius: float = config.l2 * data.size / REFERENCE_SIDE
    _judge(labels, tools)

    def delta(rows: Tensor) -> Tensor:
        x: Tensor = data.batch(rows)
        points = [
            _point(*clusters[int(labels[row])], tools.generator("point", data.keys[row])) for row in rows.tolist()
        ]
        tiles = torch.stack(points).reshape(-1, 3, grid, grid).repeat_interleave(patch, 2).repeat_interleave(patch, 3)
        tiles = tiles[..., : data.size, : data.size]  # (B,3,S,S)
        norms: Tensor = torch.linalg.vector_norm(tiles, dim=(1, 2, 3), keepdim=True)
        return (x + radius * tiles / norms).clamp(0, 1) - x

    return delta


def _point(centre: Tensor, spread: Tensor, generator: torch.Generator) -> Tensor:
    """v = A z + m, one draw of a class's cluster. (F,)"""
    return spread @ torch.randn(len(centre), generator=generator) + centre


def _clusters(classes: Any, features: int, separation: float, tools: Tools) -> list[tuple[Tensor, Tensor]]:
    """m_c and A_c of every class, each from a generator named after the class; no two centres are equal."""
    clusters: list[tuple[Tensor, Tensor]] = []
    for name in classes:
        generator = tools.generator("cluster", name)
        centre = _vertex(features, separation, generator)
        while any(torch.equal(centre, other) for other, _ in clusters):
            centre = _vertex(features, separation, generator)
        clusters.append((centre, 2 * torch.rand(features, features, generator=generator) - 1))
    return clusters


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
        tools.note("warnings", [*tools.notes.get("warnings", []), warning])


def estimate(data: Any, config: Config, tools: Tools) -> float:
    """Seconds: one small product of a matrix and a vector per image."""
    return 2e-4 * len(data)
