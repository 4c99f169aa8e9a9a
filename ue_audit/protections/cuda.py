"""CUDA: class-wise convolutions. No network is trained, and no norm bounds the change.

Every class blurs its images by a kernel of its own, drawn once, the same for the three channels:

    k ~ U(0, p_b)^(3x3) with one entry, drawn, set to 1,   x_ue = (k * x) / max(k * x)

A network learns which blur goes with which label. The padding is zero and the maximum that of the image, so its
brightest value becomes 1: images come out blurred and brighter (PSNR about 19 dB on CIFAR-10). The budget is
therefore "none"; who needs one chooses another method.

Differs from the authors' code: kernels come from generators named after the classes, so that a class that joins
changes no other; a black image stays as it is (theirs divides by zero), rounding is to the nearest level. Every image
is convolved at its own size. Whoever knows the seed and the class names has the kernels: keep the seed private.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ue_audit.config import Config as Base
from ue_audit.tools import Tools
from ue_audit.training.rows import labels_of

SOURCE = "Sadasivan et al., CUDA: Convolution-based Unlearnable Datasets, arXiv 2303.04278, section 3"
BUDGET = "none"
NEEDS = ("labels",)
SIDE = 3  # of a kernel
VISIBLE = (
    "CUDA keeps to no norm: images are visibly blurred and brighter (PSNR about 19 dB on CIFAR-10); sharpening with a "
    "frequency filter is known to undo part of it"
)


class Config(Base):
    blur: float = Field(0.3, gt=0, le=1)  # p_b: the kernel's entries beside its peak of 1 are uniform up to here


@dataclass(frozen=True)
class Blur:
    """x_ue - x of any rows, at the working size or an image's own."""

    data: Any
    labels: Tensor  # (N,)
    kernels: Tensor  # (K,3,3)

    def __call__(self, rows: Tensor) -> Tensor:
        x = self.data.batch(rows)
        return convolve(x, self.kernels[self.labels[rows]]) - x  # type: ignore[no-any-return]

    def native(self, row: int, x: Tensor) -> Tensor:
        """The change of one image x (3,H,W) at its own size."""
        return (convolve(x[None], self.kernels[self.labels[row]][None]) - x)[0]


def generate(data: Any, config: Config, tools: Tools) -> Callable[[Tensor], Tensor]:
    """delta(rows) -> (B,3,S,S) with x + delta in [0,1]. Raises UsageError without two classes."""
    labels = labels_of(data)
    kernels = torch.stack([_kernel(config.blur, tools.generator("kernel", name)) for name in data.classes])
    tools.warn(VISIBLE)
    return Blur(data, labels, kernels)


def convolve(x: Tensor, kernels: Tensor) -> Tensor:
    """x (B,3,H,W) by a kernel (3,3) per image, over the maximum of each; black images stay black."""
    height, width = x.shape[-2:]
    around = F.pad(x, (1, 1, 1, 1))
    y = torch.zeros_like(x)
    for row in range(SIDE):
        for column in range(SIDE):
            weight = kernels[:, row, column].view(-1, 1, 1, 1)
            y += weight * around[..., row : row + height, column : column + width]
    most = y.amax((1, 2, 3), keepdim=True)
    return y / torch.where(most > 0, most, torch.ones_like(most))


def _kernel(blur: float, generator: torch.Generator) -> Tensor:
    kernel = blur * torch.rand(SIDE * SIDE, generator=generator)
    kernel[torch.randint(SIDE * SIDE, (1,), generator=generator)] = 1.0
    return kernel.view(SIDE, SIDE)


def passes(config: Config, images: int) -> float:
    """None: no network takes part."""
    return 0.0


def estimate(data: Any, config: Config, tools: Tools) -> float:
    """Seconds: nine products a pixel."""
    return 4e-8 * len(data) * float(data.size) ** 2
