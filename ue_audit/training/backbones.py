"""The classifiers: `resnet18`, the field's CIFAR ResNet-18, and `small`, for laptops. Both take any size.

Input (B,3,S,S) in [0,1], output logits (B,K). Whitening by fixed constants is a module in front, so that a
perturbation always lives in pixel space.
"""

import torch
import torchvision
from torch import Tensor, nn

from ue_audit.config import did_you_mean
from ue_audit.errors import UsageError


class Centre(nn.Module):
    """(x - 1/2) / (1/4): one affine map for every data set, without statistics to leak or to store."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.5) * 4.0


def resnet18(classes: int) -> nn.Module:
    """torchvision's ResNet-18 with the CIFAR stem: 3x3, stride 1, no max-pool (11,173,962 weights at K = 10)."""
    network: nn.Module = torchvision.models.resnet18(num_classes=classes)
    network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    network.maxpool = nn.Identity()
    return network


def unit(inputs: int, outputs: int, stride: int = 1, size: int = 3) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class Residual(nn.Module):
    """x + relu(norm(conv(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = unit(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.body(x))


def small(classes: int) -> nn.Module:
    """A residual net of 16x16, 8x8 and 4x4 cells at 32 px: widths 32, 64, 128; 20 million operations an image.

    Pooling is by average throughout: a max-pooled net ignores the faint patterns that shortcuts are made of.
    """
    return nn.Sequential(
        Centre(),
        unit(3, 32, stride=2, size=5),
        Residual(32),
        nn.AvgPool2d(2),
        unit(32, 64),
        Residual(64),
        nn.AvgPool2d(2),
        unit(64, 128),
        Residual(128),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, classes),
    )


BACKBONES = {"resnet18": resnet18, "small": small}


def build(name: str, classes: int, seed: int) -> nn.Module:
    """A freshly initialised network, channels last; equal seeds give equal weights. Raises UsageError."""
    if name not in BACKBONES:
        raise UsageError(f"no network named {name!r}", hint=did_you_mean(name, BACKBONES))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BACKBONES[name](classes).to(memory_format=torch.channels_last)
