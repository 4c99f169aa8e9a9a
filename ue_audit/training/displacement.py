"""COIN: every pixel is fetched from a place drawn near its own, anew whenever the image is seen.

    out(i, j) = x(i + u, j + v),   u, v ~ U(-reach, reach) for every pixel, bilinear, wrapped round at the border

It undoes protections that convolve the image (CUDA): their filter no longer meets its neighbours. Source: Li et al.,
arXiv 2311.18403.
"""

import torch
from torch import Tensor


def draw(x: Tensor, reach: float, generator: torch.Generator) -> Tensor:
    """u and v in pixels, (2,B,H,W), for x (B,C,H,W); `reach` in shares of the side."""
    n, _, height, width = x.shape
    sides = torch.tensor([height, width]).view(2, 1, 1, 1)
    return (reach * sides * (2 * torch.rand(2, n, height, width, generator=generator) - 1)).to(x)


def fetch(x: Tensor, moved: Tensor) -> Tensor:
    """x (B,C,H,W) with each pixel from where `moved` (2,B,H,W) says, in pixels: same shape and range."""
    height, width = x.shape[2:]
    down = torch.arange(height, device=x.device)[:, None] + moved[0]  # (B,H,W)
    along = torch.arange(width, device=x.device) + moved[1]
    top, left = down.floor(), along.floor()
    below, right = (down - top)[:, None], (along - left)[:, None]

    def at(rows: Tensor, columns: Tensor) -> Tensor:
        index = (rows.long() % height) * width + columns.long() % width
        return x.flatten(2).gather(2, index.flatten(1)[:, None].expand(-1, x.shape[1], -1)).view_as(x)

    upper = torch.lerp(at(top, left), at(top, left + 1), right)
    lower = torch.lerp(at(top + 1, left), at(top + 1, left + 1), right)
    return torch.lerp(upper, lower, below)
