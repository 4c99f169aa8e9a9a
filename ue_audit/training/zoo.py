"""Larger classifiers that others are compared on, torchvision's, each with a stem for 32 px. All take any size.

Stems follow the CIFAR versions of the literature: strides and pools that only shrink photographs are taken out, so
that the last cells are 4x4 at 32 px (1x1 for VGG). There is no dropout: it would draw from torch's global stream.
"""

from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import vgg

STEM = (3, 64, 3, 1, 1)  # channels in and out, kernel, stride, padding
PATCH = 4  # pixels, of `vit`
GRID = 8  # places a side whose positions `vit` learns: 32 px


def resnet50(classes: int) -> nn.Module:
    """ResNet-50 with the stem of `resnet18`: 3x3, stride 1, no max-pool (23,520,842 weights at K = 10)."""
    network: nn.Module = torchvision.models.resnet50(num_classes=classes)
    network.conv1 = nn.Conv2d(*STEM, bias=False)
    network.maxpool = nn.Identity()
    return network


def vgg16(classes: int) -> nn.Module:
    """VGG-16's convolutions with batch norm, their mean, and one linear layer (14,728,266 weights at K = 10)."""
    body = vgg.make_layers(vgg.cfgs["D"], batch_norm=True)
    for layer in body:
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = True  # below 32 px something is left to pool
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, classes))


def densenet121(classes: int) -> nn.Module:
    """DenseNet-121 with a 3x3 stem, stride 1, and no pool behind it (6,956,426 weights at K = 10)."""
    network: Any = torchvision.models.densenet121(num_classes=classes)
    network.features.conv0 = nn.Conv2d(*STEM, bias=False)
    network.features.pool0 = nn.Identity()
    return network  # type: ignore[no-any-return]


def mobilenet_v2(classes: int) -> nn.Module:
    """MobileNetV2 whose first two strides of 2 are 1 (2,236,682 weights at K = 10)."""
    blocks = [[1, 16, 1, 1], [6, 24, 2, 1], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2], [6, 320, 1, 1]]
    network: Any = torchvision.models.MobileNetV2(classes, inverted_residual_setting=blocks, dropout=0.0)
    network.features[0][0].stride = (1, 1)
    return network  # type: ignore[no-any-return]


def vit(classes: int) -> nn.Module:
    """A vision transformer of the tiny size: patches of 4 px, 12 layers, width 192 (5,362,762 weights at K = 10)."""
    shape = {"num_layers": 12, "num_heads": 3, "hidden_dim": 192, "mlp_dim": 4 * 192}
    return Transformer(GRID * PATCH, PATCH, num_classes=classes, **shape)


class Transformer(torchvision.models.VisionTransformer):  # type: ignore[misc]
    """For any size: an image is padded to whole patches, the positions learnt for a grid of 8x8 are interpolated."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, -x.shape[-1] % PATCH, 0, -x.shape[-2] % PATCH), mode="replicate")
        patches = self.conv_proj(x)  # (B,D,h,w)
        tokens = torch.cat([self.class_token.expand(len(x), -1, -1), patches.flatten(2).mT], dim=1)  # (B,1+hw,D)
        tokens = tokens + self.positions(patches.shape[-2], patches.shape[-1])
        return torch.as_tensor(self.heads(self.encoder.ln(self.encoder.layers(tokens))[:, 0]))

    def positions(self, height: int, width: int) -> Tensor:
        """(1,1+hw,D), the class token's first."""
        learnt: Tensor = self.encoder.pos_embedding
        if (height, width) == (GRID, GRID):
            return learnt
        grid = learnt[:, 1:].mT.reshape(1, -1, GRID, GRID)  # (1,D,8,8)
        grid = F.interpolate(grid, (height, width), mode="bicubic", align_corners=False)
        return torch.cat([learnt[:, :1], grid.flatten(2).mT], dim=1)
