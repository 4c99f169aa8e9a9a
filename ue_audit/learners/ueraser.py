"""UEraser, "adversarial augmentations": learn from the hardest of several strong views of each image.

    min over theta:  mean over (x, y)  max over k = 1..K  CE(f_theta(view_k(x)), y)
    view = trivial_augment( shuffle( contrast( brightness( x ) ) ) )

Brightness and contrast change by plasma fractals, one for each channel: x + a (2m - 1) and 1/2 + 4m (x - 1/2), clipped,
which is far more than the radius of a protection and not in its direction. For the first `hardest_share` of the epochs
the hardest of K views is learnt, then a single one; K = 1 throughout is the authors' Lite, a share of 1 their Max.

Differs from the released code: the hardest view is found in evaluation mode and without gradients, so that batch norm
sees the views that are learnt and no others; TrivialAugment draws its operation for each image, there for a batch; its
fractals have a mean of 1/2, there the first round is divided by three.
"""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ue_audit.imagedata import to_float, to_uint8
from ue_audit.tools import Epoch, Tools
from ue_audit.training import cost, plasma, supervised_fit, trivial_augment
from ue_audit.training import fit as loop
from ue_audit.training.supervised_fit import Lot

SOURCE = "Qin et al., Learning the Unlearnable: Adversarial Augmentations (UEraser), arXiv 2303.15127"
IN_WORDS = "trains on the hardest of several strongly altered copies of each image"
NEEDS = ("labels",)

ROUGHNESS = (0.3, 0.7)  # of a fractal, uniform
INTENSITY = (0.5, 1.0)  # a, the largest change of brightness, uniform


class Config(supervised_fit.Config):
    """Defaults are the standard variant on a laptop's network.

    4 x 500 images of CIFAR-10: clean 72.0 % (n = 1; supervised 79.2), 49 s on one core of a 2-core x86 CPU with
    AVX512-BF16. It does not break EMN at this size: 26.8 %, with `hardest_share` 1 31.0 %, with one view and every one
    changed by plasma (`p_plasma` 1) 25.8 %, that in the wide space 34.7 % (n = 1 each; chance 25 %).
    """

    views: int = Field(5, ge=1)  # K
    hardest_share: float = Field(0.3, ge=0, le=1)  # of the epochs; 50 to 60 of 200 in the paper
    p_plasma: float = Field(0.5, ge=0, le=1)  # of brightness and, apart, of contrast; the authors' notebook has 1
    p_shuffle: float = Field(0.5, ge=0, le=1)  # of the channels
    space: trivial_augment.Space = "narrow"  # of TrivialAugment; narrow as in the released code
    jpeg_quality: int = Field(100, ge=1, le=100)  # the least of views encoded as JPEG, uniform to 100; 100: none is

    def hard_epochs(self) -> int:
        """How many epochs, the first ones, learn the hardest of several views."""
        return round(self.hardest_share * self.epochs) if self.views > 1 else 0


def counters(config: Config) -> str:
    """The victim it hardens."""
    return "supervised"


def passes(config: Config, images: int) -> float:
    """In every epoch one of each image for the step; where the hardest is looked for, K forward ones."""
    return config.epochs + config.hard_epochs() * config.views * cost.FORWARD


def fit(data: Any, config: Config, tools: Tools) -> Iterator[Epoch]:
    """One `Epoch` after each pass over `data`. Raises UsageError without labels or with one class."""

    def learn(model: nn.Module, optimiser: torch.optim.Optimizer, lot: Lot) -> float:
        x = loop.seen(lot.x, config, lot.generator("views"))
        count = config.views if lot.epoch < config.hard_epochs() else 1
        seen = [view(x, config, lot.generator(f"view {k}")) for k in range(count)]
        return loop.train_step(model, optimiser, hardest(model, seen, lot.y), lot.y)

    return supervised_fit.fit(data, config, tools, learn)


def hardest(model: nn.Module, seen: list[Tensor], y: Tensor) -> Tensor:
    """Of K views of each image the one (B,3,S,S) that the model, in evaluation mode, has the largest loss on."""
    if len(seen) == 1:
        return seen[0]
    losses = torch.stack([F.cross_entropy(loop.logits_of(model, x), y, reduction="none") for x in seen])  # (K, B)
    return torch.stack(seen)[losses.argmax(0), torch.arange(len(y), device=y.device)]


def view(x: Tensor, config: Config, generator: torch.Generator) -> Tensor:
    """One strong view (B,3,S,S) in [0,1] of every image."""
    x = _sometimes(brightness, x, config.p_plasma, generator)
    x = _sometimes(contrast, x, config.p_plasma, generator)
    x = _sometimes(shuffle, x, config.p_shuffle, generator)
    x = trivial_augment.apply(x, trivial_augment.draw(len(x), config.space, generator))
    return encoded(x, config.jpeg_quality, generator) if config.jpeg_quality < 100 else x


def brightness(x: Tensor, generator: torch.Generator) -> Tensor:
    """x + a (2m - 1), clipped."""
    a = _uniform(INTENSITY, len(x), generator).view(-1, 1, 1, 1)
    return (x + (a * (2 * _fractals(x, generator) - 1)).to(x.device)).clamp(0, 1)


def contrast(x: Tensor, generator: torch.Generator) -> Tensor:
    """1/2 + 4m (x - 1/2), clipped."""
    return (0.5 + 4 * _fractals(x, generator).to(x.device) * (x - 0.5)).clamp(0, 1)


def shuffle(x: Tensor, generator: torch.Generator) -> Tensor:
    """The channels of each image in an order of its own."""
    order = torch.rand(len(x), 3, generator=generator).argsort(1).to(x.device)
    return x[torch.arange(len(x), device=x.device)[:, None], order]


def encoded(x: Tensor, least: int, generator: torch.Generator) -> Tensor:
    """Through Pillow's JPEG, each image at a quality of its own."""
    qualities = torch.randint(least, 101, (len(x),), generator=generator).tolist()
    decoded = []
    for pixels, quality in zip(to_uint8(x), qualities, strict=True):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(file)))
    return to_float(np.stack(decoded)).to(x.device)


def _sometimes(change: Any, x: Tensor, p: float, generator: torch.Generator) -> Tensor:
    """`change` of a share of about `p` of the images."""
    rows = (torch.rand(len(x), generator=generator) < p).nonzero().flatten().to(x.device)
    if not len(rows):
        return x
    return x.index_copy(0, rows, change(x[rows], generator))


def _fractals(x: Tensor, generator: torch.Generator) -> Tensor:
    return plasma.fractals(_uniform(ROUGHNESS, len(x), generator), (3, x.shape[2], x.shape[3]), generator)


def _uniform(bounds: tuple[float, float], n: int, generator: torch.Generator) -> Tensor:
    """(n,)."""
    return bounds[0] + (bounds[1] - bounds[0]) * torch.rand(n, generator=generator)
