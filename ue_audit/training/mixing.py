"""Cutout, Mixup and CutMix of a whole batch on its device, each image by its own draw.

    cutout   a hole of `share` of the side                                    arXiv 1708.04552
    mixup    x' = lam x + (1 - lam) x_other                                   arXiv 1710.09412
    cutmix   a box of 1 - lam of the area comes from x_other                  arXiv 1905.04899

The loss of a mixed image is lam CE(., y) + (1 - lam) CE(., y_other), lam ~ Beta(alpha, alpha); of CutMix, lam is the
share that the box leaves after it is cut at the border. The other image is one of the same batch.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Mix(NamedTuple):
    """How the images of a batch are mixed, all (B,) on the CPU."""

    partner: Tensor  # the row of the other image
    lam: Tensor  # share of the first image, 1 where it stays alone
    down: Tensor  # centre of a box, in shares of the side
    along: Tensor


def draw(n: int, alpha: float, probability: float, generator: torch.Generator) -> Mix:
    """A partner for each of n images, and with that probability a share for it."""
    partner = torch.randint(n, (n,), generator=generator)
    chance, down, along = torch.rand(3, n, generator=generator)
    seed = int(torch.randint(2**63 - 1, (1,), generator=generator))
    lam = torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, n)).float()  # torch's has no generator
    return Mix(partner, torch.where(chance < probability, lam, 1.0), down, along)


def mixup(x: Tensor, other: Tensor, mix: Mix) -> tuple[Tensor, Tensor]:
    """x (B,3,S,S) mixed with `other`, and the share (B,) of the first labels."""
    lam = mix.lam.to(x.device)
    return torch.lerp(other, x, lam.view(-1, 1, 1, 1)), lam


def cutmix(x: Tensor, other: Tensor, mix: Mix) -> tuple[Tensor, Tensor]:
    """x (B,3,S,S) with boxes of `other`, and the share (B,) of the first labels."""
    inside = box(x, (1 - mix.lam).sqrt(), mix.down, mix.along)
    return torch.where(inside, other, x), 1 - inside.float().mean((1, 2, 3))


def cutout(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """x with a black hole in every image, its centre anywhere in it."""
    down, along = torch.rand(2, len(x), generator=generator)
    return holes(x, torch.full((len(x),), share), (down, along), (0.0, 0.0, 0.0))


def holes(x: Tensor, share: Tensor, centre: tuple[Tensor, Tensor], colour: Sequence[float]) -> Tensor:
    """x (B,3,S,S) with a square of `share` (B,) of the side in `colour`, cut at the border, about each centre (B,)."""
    fill = torch.tensor(colour, device=x.device, dtype=x.dtype).view(1, 3, 1, 1)
    return torch.where(box(x, share, *centre), fill, x)


def box(x: Tensor, share: Tensor, down: Tensor, along: Tensor) -> Tensor:
    """(B,1,H,W) true inside: `round(share * side)` pixels about the pixel floor(centre * side), cut at the border."""
    spans = []
    for side, centre in ((x.shape[2], down), (x.shape[3], along)):
        length = (share.to(x.device) * side).round()[:, None]
        first = (centre.to(x.device) * side).floor()[:, None] - (length / 2).floor()
        place = torch.arange(side, device=x.device)
        spans.append((place >= first) & (place < first + length))
    return spans[0][:, None, :, None] & spans[1][:, None, None, :]
