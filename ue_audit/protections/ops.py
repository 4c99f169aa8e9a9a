"""OPS: one-pixel shortcut. One pixel of every image is set; no network is trained and nothing is drawn.

All images of a class get the same colour in the same place. Over places and the 8 corner colours c in {0,1}^3, a
class takes the pair that deviates most, and most steadily, from its own images x:

    score(place, c) = mean |c - x| / std |c - x|   over the class's images and the three channels at that place

Classes choose in the order of their names, and no pair serves two. `pixels` places are taken instead of one, best
first. Differs from the authors' code: means and variances are accumulated from whole levels in one stream over a
class, in any number and size, so that the order of files changes nothing and every seed gives the same pixels; and a
deviation is never taken for steadier than one level, or a class of one image would have scores without end. A class
that joins changes those after it only where it takes a pair they would have chosen. Images of another size than the
working one get the pixel at the same place, relative to their sides, nearest to it; shrinking a large photograph
averages it away.
"""

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

SOURCE = "Wu et al., One-Pixel Shortcut, arXiv 2205.12141, section 3"
BUDGET = "l0"
NEEDS = ("labels",)
AT_ONCE = 2**22  # values of images in memory at once
STEADIEST = 1 / 255  # least standard deviation: what 8 bits can tell
CORNERS = torch.tensor([[r, g, b] for r in (0.0, 1.0) for g in (0.0, 1.0) for b in (0.0, 1.0)])  # (8,3)
FRAGILE = (
    "OPS is fragile against cropping, cutout and median filters, and JPEG at quality 10 undid it (83 % accuracy, 37 % "
    "without; published, CIFAR-10)"
)


class Config(Base):
    pixels: int = Field(1, ge=1)  # set per image


@dataclass(frozen=True)
class Pixels:
    """c - x at a class's places and 0 elsewhere, at the working size or an image's own."""

    data: Any
    labels: Tensor  # (N,)
    places: Tensor  # (K,k) row * S + column
    colours: Tensor  # (K,k,3)

    def __call__(self, rows: Tensor) -> Tensor:
        x = self.data.batch(rows).flatten(2)  # (B,3,S*S)
        labels = self.labels[rows]
        places = self.places[labels][:, None].expand(-1, 3, -1)  # (B,3,k)
        change = self.colours[labels].transpose(1, 2) - x.gather(2, places)
        return torch.zeros_like(x).scatter_(2, places, change).view(-1, 3, self.data.size, self.data.size)

    def native(self, row: int, x: Tensor) -> Tensor:
        """c - x of one image x (3,H,W) at its own size; where two places fall on one pixel, the better one counts."""
        change, size, label = torch.zeros_like(x), self.data.size, int(self.labels[row])
        for place, colour in reversed(list(zip(self.places[label].tolist(), self.colours[label], strict=True))):
            down, across = (_scaled(at, size, side) for at, side in zip(divmod(place, size), x.shape[1:], strict=True))
            change[:, down, across] = colour - x[:, down, across]
        return change


def generate(data: Any, config: Config, tools: Tools) -> Callable[[Tensor], Tensor]:
    """delta(rows) -> (B,3,S,S), non-zero in at most `pixels` places. Raises UsageError if there are too few."""
    labels, size = labels_of(data), data.size
    used = torch.zeros(len(CORNERS), size * size, dtype=torch.bool)
    chosen: dict[str, tuple[Tensor, Tensor]] = {}
    tools.progress.start("scoring", len(data.classes), "classes")
    for name in sorted(data.classes):
        rows = (labels == data.classes.index(name)).nonzero()[:, 0]
        scores = score(*_moments(data, rows)).flatten(1).masked_fill(used, -1.0)  # (8,S*S)
        best, colours = scores.max(0)
        if int((best >= 0).sum()) < config.pixels:
            raise UsageError(
                f"pixels = {config.pixels} is too many for {len(data.classes)} classes of {size} x {size} pixels",
                hint=f"a place has {len(CORNERS)} colours, and no two classes share both: use fewer pixels",
            )
        places = best.argsort(descending=True, stable=True)[: config.pixels]
        chosen[name] = places, colours[places]
        used[colours[places], places] = True
        tools.progress.advance(1)
    tools.note("pixels", {name: _described(*pairs, size) for name, pairs in chosen.items()})
    tools.warn(FRAGILE)
    places = torch.stack([chosen[name][0] for name in data.classes])
    return Pixels(data, labels, places, CORNERS[torch.stack([chosen[name][1] for name in data.classes])])


def score(mean: Tensor, square: Tensor) -> Tensor:
    """mean |c - x| / std |c - x| (8,S,S) from mean x and mean x^2 (3,S,S) of a class: |0 - x| = x, |1 - x| = 1 - x."""
    corners = CORNERS.to(mean)[..., None, None]  # (8,3,1,1)
    distance = torch.where(corners > 0, 1 - mean, mean).mean(1)
    squared = torch.where(corners > 0, 1 - 2 * mean + square, square).mean(1)
    return distance / (squared - distance**2).clamp(min=STEADIEST**2).sqrt()


def _moments(data: Any, rows: Tensor) -> tuple[Tensor, Tensor]:
    """mean x and mean x^2 (3,S,S) of these rows, from sums of whole levels: exact, so in any order the same."""
    total = torch.zeros(2, 3, data.size, data.size, dtype=torch.int64)
    for some in torch.split(rows, max(1, AT_ONCE // (3 * data.size**2))):
        levels = (255 * data.batch(some)).round().to(torch.int32)
        total += torch.stack([levels.sum(0), levels.square().sum(0)])
    mean, square = total.double() / len(rows)
    return mean / 255, square / 255**2


def _described(places: Tensor, colours: Tensor, size: int) -> list[list[int]]:
    """[row, column, red, green, blue] of every pair, colours 0 or 1."""
    pairs = zip(places.tolist(), CORNERS[colours].int().tolist(), strict=True)
    return [[*divmod(place, size), *colour] for place, colour in pairs]


def _scaled(at: int, size: int, side: int) -> int:
    """The pixel of `side` that holds the centre of pixel `at` of `size`."""
    return (2 * at + 1) * side // (2 * size)


def passes(config: Config, images: int) -> float:
    """None: no network takes part."""
    return 0.0


def estimate(data: Any, config: Config, tools: Tools) -> float:
    """Seconds: two readings of the set."""
    return 4e-8 * len(data) * float(data.size) ** 2
