"""Random crop and flip of a whole batch on its device, each image with its own draw."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Views(NamedTuple):
    """Where each image of a batch is cut from its padded self, and whether it is mirrored. All (B,)."""

    top: Tensor
    left: Tensor
    mirror: Tensor


def draw_views(n: int, pad: int, flip: bool, generator: torch.Generator) -> Views:
    """n independent views: offsets uniform on 0..2 pad, mirrored with probability 1/2 if `flip`."""
    offsets = torch.randint(2 * pad + 1, (2, n), generator=generator)
    coins = torch.rand(n, generator=generator) < 0.5
    return Views(offsets[0], offsets[1], coins & flip)


def view(x: Tensor, views: Views, pad: int) -> Tensor:
    """Pad with zeros, cut, mirror: (B,C,S,S) of any dtype -> the same shape, channels last. Differentiable."""
    n, _, height, width = x.shape
    top, left, mirror = (part.to(x.device) for part in views)
    rows = top[:, None] + torch.arange(height, device=x.device)  # (B, S)
    steps = torch.arange(width, device=x.device)
    columns = left[:, None] + torch.where(mirror[:, None], steps.flip(0), steps)  # (B, S)
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, pad, pad, pad, pad))
    batch = torch.arange(n, device=x.device)[:, None, None]
    return padded[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
