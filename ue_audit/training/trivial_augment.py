"""TrivialAugment: every image gets one operation, drawn evenly, at one of 31 strengths, drawn evenly.

Operations are torchvision's on float images, each with a strength per image, so that a batch is served by one call
per operation. Source: Müller and Hutter, arXiv 2103.10158.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2 import functional as torchvision

from ue_audit.training import views

STRENGTHS = 31
Space = Literal["wide", "narrow"]


class Drawn(NamedTuple):
    """The operation of each image, by its place in `OPERATIONS`, and its strength. Both (n,)."""

    operation: Tensor
    strength: Tensor


class Reach(NamedTuple):
    """Strengths from `first` to `last`; a signed one is negated for half of the images."""

    first: float = 0.0
    last: float = 0.0
    signed: bool = False


def draw(n: int, space: Space, generator: torch.Generator) -> Drawn:
    """n independent draws from a space of `SPACES`."""
    reaches = SPACES[space]
    chosen = torch.randint(len(reaches), (n,), generator=generator)
    share = torch.randint(STRENGTHS, (n,), generator=generator) / (STRENGTHS - 1)
    negative = torch.rand(n, generator=generator) < 0.5
    table = torch.tensor([tuple(map(float, reach)) for reach in reaches.values()])[chosen]  # (n, 3)
    strength = torch.lerp(table[:, 0], table[:, 1], share)
    places = torch.tensor([list(OPERATIONS).index(name) for name in reaches])
    return Drawn(places[chosen], torch.where(negative & table[:, 2].bool(), -strength, strength))


def apply(x: Tensor, drawn: Drawn) -> Tensor:
    """(B,3,H,W) in [0,1] -> the same shape and range, each image by its own operation."""
    out = x.clone()
    for number, operation in enumerate(OPERATIONS.values()):
        rows = (drawn.operation == number).nonzero().flatten()
        if len(rows):
            strength = drawn.strength[rows].to(x).view(-1, 1, 1, 1)
            rows = rows.to(x.device)
            out[rows] = operation(x[rows], strength)
    return out


# -- where: each pixel takes the nearest one of where it came from, black from outside -------------------------


def warp(x: Tensor, rows: tuple[tuple[Tensor | float, ...], tuple[Tensor | float, ...]]) -> Tensor:
    """Pixel (u, v) from the centre comes from ((a, b, c), (d, e, f)) @ (u, v, 1); entries are (B,1,1,1) or plain."""
    tall, wide = x.shape[2:]
    u = torch.arange(wide, device=x.device, dtype=x.dtype) - (wide - 1) / 2
    v = (torch.arange(tall, device=x.device, dtype=x.dtype) - (tall - 1) / 2)[:, None]
    across, down = (a * u + b * v + c for a, b, c in rows)  # each broadcasts to (B,1,H,W)
    places = (2 * across / wide, 2 * down / tall)
    grid = torch.stack([place.expand(len(x), 1, tall, wide)[:, 0] for place in places], dim=-1)
    return F.grid_sample(x, grid, mode="nearest", padding_mode="zeros", align_corners=False)


def shear_x(x: Tensor, slope: Tensor) -> Tensor:
    """The top edge stays."""
    return warp(x, ((1, slope, slope * x.shape[2] / 2), (0, 1, 0)))


def shear_y(x: Tensor, slope: Tensor) -> Tensor:
    """The left edge stays."""
    return warp(x, ((1, 0, 0), (slope, 1, slope * x.shape[3] / 2)))


def translate_x(x: Tensor, share: Tensor) -> Tensor:
    """Whole pixels, by a share of the side."""
    return warp(x, ((1, 0, -(share * x.shape[3]).trunc()), (0, 1, 0)))


def translate_y(x: Tensor, share: Tensor) -> Tensor:
    return warp(x, ((1, 0, 0), (0, 1, -(share * x.shape[2]).trunc())))


def rotate(x: Tensor, degrees: Tensor) -> Tensor:
    """Against the clock."""
    cos, sin = degrees.deg2rad().cos(), degrees.deg2rad().sin()
    return warp(x, ((cos, -sin, 0), (sin, cos, 0)))


# -- how bright, how sharp ---------------------------------------------------------------------------------------


def sharpen(x: Tensor, strength: Tensor) -> Tensor:
    """Away from (strength > 0) or towards a 3x3 mean whose middle counts five times; border pixels stay."""
    if min(x.shape[2:]) <= 2:
        return x
    kernel = torch.ones(3, 1, 3, 3, device=x.device, dtype=x.dtype)
    kernel[:, :, 1, 1] = 5
    inner, out = x[:, :, 1:-1, 1:-1], x.clone()
    out[:, :, 1:-1, 1:-1] = torch.lerp(F.conv2d(x, kernel / 13, groups=3), inner, 1 + strength)
    return out.clamp(0, 1)


def posterize(x: Tensor, bits: Tensor) -> Tensor:
    """2^bits levels from 0 on, rounded down."""
    levels = 2 ** bits.round()
    return (x * levels).floor().minimum(levels - 1) / levels


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    """What is as bright as the threshold, or brighter, is inverted."""
    return torch.where(x >= threshold, 1 - x, x)


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "identity": lambda x, _: x,
    "shear_x": shear_x,
    "shear_y": shear_y,
    "translate_x": translate_x,
    "translate_y": translate_y,
    "rotate": rotate,
    "brightness": lambda x, strength: views.brighten(x, 1 + strength),
    "colour": lambda x, strength: views.saturate(x, 1 + strength),
    "contrast": lambda x, strength: views.contrast(x, 1 + strength),
    "sharpness": sharpen,
    "posterize": posterize,
    "solarize": solarize,
    "autocontrast": lambda x, _: torchvision.autocontrast(x),
    "equalize": lambda x, _: torchvision.equalize(x),
}

WIDE = {  # the paper's wide space, torchvision's TrivialAugmentWide
    "identity": Reach(),
    **dict.fromkeys(("shear_x", "shear_y"), Reach(0, 0.99, True)),
    **dict.fromkeys(("translate_x", "translate_y"), Reach(0, 1, True)),  # 32 px at 32 px
    "rotate": Reach(0, 135, True),
    **dict.fromkeys(("brightness", "colour", "contrast", "sharpness"), Reach(0, 0.99, True)),
    "posterize": Reach(8, 2),
    "solarize": Reach(1, 0),
    "autocontrast": Reach(),
    "equalize": Reach(),
}
NARROW = {  # kornia's defaults, signed
    **dict.fromkeys(("shear_x", "shear_y"), Reach(0, 0.3, True)),
    **dict.fromkeys(("translate_x", "translate_y"), Reach(0, 0.5, True)),
    "rotate": Reach(0, 30, True),
    **dict.fromkeys(("brightness", "contrast", "sharpness"), Reach(0, 0.9, True)),
    "posterize": Reach(4, 0),
    "solarize": Reach(1, 0),
    "autocontrast": Reach(),
    "equalize": Reach(),
}
SPACES: dict[Space, dict[str, Reach]] = {"wide": WIDE, "narrow": NARROW}
