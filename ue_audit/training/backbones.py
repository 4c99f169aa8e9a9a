"""The classifiers: `resnet18`, the field's CIFAR ResNet-18, `small`, for laptops, and the zoo. All take any size.

Input (B,3,S,S) in [0,1], output logits (B,K). No data set's mean or deviation is taken off first: `resnet18` and the
zoo take pixels as the unlearnable-examples literature does, `small` brings its own whitening, so a change lives in
pixels.
"""

import threading
from typing import Literal

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from ue_audit.config import did_you_mean
from ue_audit.errors import UsageError
from ue_audit.training import zoo

Backbone = Literal["small", "thin", "resnet18", "resnet50", "vgg16", "densenet121", "mobilenet_v2", "vit"]
"""What a learner may train."""


def resnet18(classes: int) -> nn.Module:
    """torchvision's ResNet-18 with the CIFAR stem: 3x3, stride 1, no max-pool (11,173,962 weights at K = 10)."""
    network: nn.Module = torchvision.models.resnet18(num_classes=classes)
    network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    network.maxpool = nn.Identity()
    return network


def unit(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))  # no gradient needs its input


class Residual(nn.Module):
    """x + relu(norm(conv(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = unit(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.body(x))


FLOOR = 80 / 255  # of `small`
FINE = 0.8 / 255  # of `small-fine`


class Spectrum(nn.Module):
    """A fixed 4x4 cosine transform, stride 2, of brightness and two colour differences, each coefficient scaled.

    The cosine transform nearly diagonalises natural images, whose power falls towards fine detail; a batch norm behind
    it is a whitening that stores no statistics of a data set. It lets a net learn faint patterns in hundreds of steps
    that others take thousands for, and what is natural faster, too (clean 79 to 81 %, 75 with a plain stem; 4 x 500
    images). `floor` is added, squared, to the variance of every coefficient: it keeps small what images hardly have,
    such as fine colour detail (deviation 1 to 3 levels).
    """

    bank: Tensor

    def __init__(self, floor: float) -> None:
        super().__init__()
        self.register_buffer("bank", cosines(4), persistent=False)
        self.scale = nn.BatchNorm2d(48, affine=False, eps=floor**2)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
        return torch.as_tensor(self.scale(F.conv2d(padded, self.bank.to(x.dtype), stride=2)))


def cosines(side: int) -> Tensor:
    """The orthonormal DCT-II of `side` x `side` patches in three orthonormal colours: (3 side^2, 3, side, side)."""
    n = torch.arange(side, dtype=torch.float64)
    wave = torch.cos(torch.pi * (2 * n[None] + 1) * n[:, None] / (2 * side)) * (2 / side) ** 0.5
    wave[0] /= 2**0.5
    colour = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [1.0, -2.0, 1.0]], dtype=torch.float64)
    colour /= colour.norm(dim=1, keepdim=True)
    return torch.einsum("cr,ui,vj->cuvrij", colour, wave, wave).reshape(-1, 3, side, side).float()


def small(classes: int, floor: float = FLOOR, width: int = 32) -> nn.Module:
    """A residual net of 16x16, 8x8 and 4x4 cells at 32 px: widths 32, 64, 128; 20 million operations an image.

    Pooling is by average throughout: a max-pooled net ignores the faint patterns that shortcuts are made of.
    """
    return nn.Sequential(
        Spectrum(floor),
        unit(48, width, size=1),
        Residual(width),
        nn.AvgPool2d(2),
        unit(width, 2 * width),
        Residual(2 * width),
        nn.AvgPool2d(2),
        unit(2 * width, 4 * width),
        Residual(4 * width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, classes),
    )


def thin(classes: int) -> nn.Module:
    """`small` of half the width, for learning without labels: untrained, it leaves more to learn.

    A linear probe of its untrained features, fitted on 4 x 500 clean images of CIFAR-10, is right on 62 % of others, of
    those of `small` on 66 % (n = 2).
    """
    return small(classes, width=16)


def small_fine(classes: int) -> nn.Module:
    """`small` that sees the finest detail at full weight: a surrogate to craft with, too nervous to learn images by.

    Noise crafted against it is broad-band (26 % of its energy in 4x4 means, 86 to 94 % with a plain stem), and so
    stronger, and easier for purification to tell from the image.
    """
    return small(classes, FINE)


BACKBONES = {
    "resnet18": resnet18,
    "small": small,
    "small-fine": small_fine,
    "thin": thin,
    "resnet50": zoo.resnet50,
    "vgg16": zoo.vgg16,
    "densenet121": zoo.densenet121,
    "mobilenet_v2": zoo.mobilenet_v2,
    "vit": zoo.vit,
}
INITIALISING = threading.Lock()  # torch draws initial weights from its one global stream; trainings run in threads


def build(name: str, classes: int, seed: int) -> nn.Module:
    """A freshly initialised network, channels last; equal seeds give equal weights. Raises UsageError."""
    if name not in BACKBONES:
        raise UsageError(f"no network named {name!r}", hint=did_you_mean(name, BACKBONES))
    with INITIALISING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BACKBONES[name](classes).to(memory_format=torch.channels_last)


def headless(network: nn.Module) -> tuple[nn.Module, int]:
    """A classifier without its last linear layer, and the width of the features that layer read."""
    name, last = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear)][-1]
    within, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(within), leaf, nn.Identity())
    return network, last.in_features
