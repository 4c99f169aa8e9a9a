"""SimCLR's views of a whole batch on its device: crop and resize, flip, colour jitter, grayscale. Differentiable.

    view(x) = gray( jitter( flip( resize( crop(x) ) ) ) )

The arithmetic is torchvision's on tensors, operation by operation, so noise is crafted against what a victim does. A
crop is never larger than the image, so its resize only ever enlarges and antialiasing would change nothing: two
products with (B,S,S) matrices of hat functions, whose outermost pixels hold at the crop's own edge (sampling the whole
image on a grid would look past it). Boxes are whole pixels, of an aspect within 3/4 to 4/3; ten are tried, then the
whole image is taken. An image that is not jittered, or not made gray, passes unchanged, bit by bit.

Differs from torchvision: the order of the four jitters is drawn once per batch, not per image (each image alone has
the same distribution), and nothing is rounded to 8 bits in between. One `Drawn` serves any side, as shares of it.
"""

from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from ue_audit.config import Config

ASPECT = 4 / 3  # widest crop; the tallest is its inverse, uniform in the logarithm
TRIES = 10  # boxes drawn per image before the whole image is taken
HOLE = 0.5  # what is cut out: a middle gray, as good as the mean colour that is 0 behind a normalisation
LUMA = (0.2989, 0.587, 0.114)  # ITU-R 601, rounded as in torchvision


class Views(Config):
    """How strong the views are. Defaults: SimCLR's for CIFAR-10, as the contrastive poisons and their victims use."""

    area: float = Field(0.2, gt=0, le=1)  # least share of the image in a crop
    flip: float = Field(0.5, ge=0, le=1)  # probability
    brightness: float = Field(0.4, ge=0, le=1)  # factor uniform on 1 -+ this
    contrast: float = Field(0.4, ge=0, le=1)
    saturation: float = Field(0.4, ge=0, le=1)
    hue: float = Field(0.1, ge=0, le=0.5)  # in turns of the colour circle
    p_jitter: float = Field(0.8, ge=0, le=1)
    p_gray: float = Field(0.2, ge=0, le=1)

    @classmethod
    def of_strength(cls, s: float) -> "Views":
        """One number for all: s = 1 is SimCLR's jitter with crops down to a tenth; s = 0 only flips."""
        jitter = {"brightness": 0.4 * s, "contrast": 0.4 * s, "saturation": 0.4 * s, "hue": 0.1 * s}
        return cls(area=max(1 - 0.9 * s, 0.05), p_jitter=min(0.99, 0.8 * s), p_gray=0.2 * s, **jitter)


class Drawn(NamedTuple):
    """The numbers behind n views: all (n,), but `order`, the jitters' order for the batch."""

    height: Tensor  # of the crop, share of the image's
    width: Tensor
    down: Tensor  # place of the crop in what room it has, [0,1)
    along: Tensor
    mirror: Tensor  # Boolean
    brightness: Tensor  # factors; 1 where an image is not jittered
    contrast: Tensor
    saturation: Tensor
    hue: Tensor  # turns; 0 where an image is not jittered
    gray: Tensor  # Boolean
    order: tuple[int, ...]

    def to(self, device: torch.device | str) -> "Drawn":
        return self._replace(**{name: getattr(self, name).to(device) for name in self._fields[:-1]})


def draw(n: int, settings: Views, generator: torch.Generator) -> Drawn:
    """n independent views, drawn on the CPU: equal generators give equal numbers on every device."""
    height, width = _boxes(n, settings.area, generator)
    down, along, mirror, jittered, gray = torch.rand(5, n, generator=generator)
    signed = 2 * torch.rand(4, n, generator=generator) - 1
    strengths = (settings.brightness, settings.contrast, settings.saturation, settings.hue)
    shifts = torch.tensor(strengths)[:, None] * signed * (jittered < settings.p_jitter)
    brightness, contrast, saturation, hue = shifts
    return Drawn(
        height, width, down, along, mirror < settings.flip, 1 + brightness, 1 + contrast, 1 + saturation, hue,
        gray < settings.p_gray, order=tuple(torch.randperm(4, generator=generator).tolist()),
    )


def _boxes(n: int, area: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Heights and widths in shares of the side: the first of `TRIES` that fits, else the whole image."""
    drawn = torch.rand(2, n, TRIES, generator=generator)
    share = area + (1 - area) * drawn[0]
    aspect = ASPECT ** (2 * drawn[1] - 1)
    sides = torch.stack([(share / aspect).sqrt(), (share * aspect).sqrt()])  # (2, n, TRIES)
    fits = (sides <= 1).all(0)
    first = fits.int().argmax(1)  # 0 also where none fits
    chosen = torch.where(fits.any(1), sides[:, torch.arange(n), first], 1.0)
    return chosen[0], chosen[1]


def apply(x: Tensor, drawn: Drawn) -> Tensor:
    """(B,3,H,W) in [0,1] -> the drawn views, same shape and range."""
    drawn = drawn.to(x.device)
    x = crop(x, drawn)
    factors = (drawn.brightness, drawn.contrast, drawn.saturation, drawn.hue)
    for number in drawn.order:
        x = JITTERS[number](x, factors[number].to(x.dtype).view(-1, 1, 1, 1))
    return torch.where(drawn.gray.view(-1, 1, 1, 1), luma(x), x)


def view(x: Tensor, settings: Views, generator: torch.Generator) -> Tensor:
    """One fresh view of every image."""
    return apply(x, draw(len(x), settings, generator))


# -- where an image is looked at -----------------------------------------------------------------------------


def crop(x: Tensor, drawn: Drawn) -> Tensor:
    """The drawn boxes, mirrored where drawn, resized to the image's size: rows @ x @ columns^T."""
    tall, wide = x.shape[2:]
    rows = _hats(tall, drawn.height, drawn.down, torch.zeros_like(drawn.mirror), x.dtype)
    columns = _hats(wide, drawn.width, drawn.along, drawn.mirror, x.dtype)
    return rows[:, None] @ x @ columns[:, None].mT


def _hats(side: int, share: Tensor, place: Tensor, mirror: Tensor, dtype: torch.dtype) -> Tensor:
    """(B,S,S): row i holds the weights of an axis's pixels in pixel i of the enlarged crop; pixels are centred."""
    steps = torch.arange(side, device=share.device)
    length = (share * side).round().clamp(1, side)[:, None]  # (B, 1) whole pixels
    start = (place[:, None] * (side - length + 1)).floor()
    i = torch.where(mirror[:, None], steps.flip(0), steps)  # (B, S)
    inside = ((i + 0.5).to(dtype) * length / side - 0.5).clamp(min=torch.zeros_like(length), max=length - 1)
    return (1 - ((start + inside)[:, :, None] - steps).abs()).clamp(min=0).to(dtype)


# -- colours: x (B,3,H,W) and one number per image (B,1,1,1) ---------------------------------------------------


def luma(x: Tensor) -> Tensor:
    """(B,1,H,W)."""
    red, green, blue = x.unbind(1)
    return (LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue)[:, None]


def brighten(x: Tensor, factor: Tensor) -> Tensor:
    return (factor * x).clamp(0, 1)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Away from (factor > 1) or towards the image's mean luma."""
    return torch.lerp(luma(x).mean((2, 3), keepdim=True), x, factor).clamp(0, 1)


def saturate(x: Tensor, factor: Tensor) -> Tensor:
    """Away from (factor > 1) or towards each pixel's luma."""
    return torch.lerp(luma(x), x, factor).clamp(0, 1)


def turn_hue(x: Tensor, turns: Tensor) -> Tensor:
    """HSV with its hue moved round the circle of six sextants; value V and chroma C stay. A channel is V within one
    sextant of its own hue (red 0, green 2, blue 4), V - C from two on, and on a straight line between.
    """
    red, green, blue = x.unbind(1)  # (B,H,W) each
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    over = torch.where(chroma == 0, 1.0, chroma)  # a gray pixel's hue is 0, and does not matter
    own = torch.where(red == value, 0.0, torch.where(green == value, 2.0, 4.0))
    rise = torch.where(red == value, green - blue, torch.where(green == value, blue - red, red - green))
    hue = (own + rise / over + 6 * turns[:, 0]) % 6
    near = [((hue - channel).abs() - 3).abs() for channel in (0, 2, 4)]  # 3 - sextants apart, the short way round
    turned = torch.stack([value - chroma * (2 - part).clamp(0, 1) for part in near], dim=1)
    return torch.where(turns == 0, x, turned)


JITTERS = (brighten, contrast, saturate, turn_hue)  # in the order of their fields in `Drawn`


# -- what some learners do to a view besides -------------------------------------------------------------------


def noisy(x: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise of that standard deviation on every pixel, cut to [0,1]."""
    return (x + deviation * torch.randn(x.shape, generator=generator).to(x)).clamp(0, 1)


def cut_out(x: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Every image with a gray square of that share of its side, centred on any of its pixels and cut at the edges."""
    n, _, tall, wide = x.shape
    centres = torch.rand(2, n, generator=generator)
    down, along = (
        _hole(side, round(share * side), at).to(x.device) for side, at in zip((tall, wide), centres, strict=True)
    )
    return torch.where((down[:, :, None] & along[:, None, :])[:, None], HOLE, x)


def _hole(side: int, length: int, at: Tensor) -> Tensor:
    """(B,S): which pixels of an axis lie in a stretch of that length around the pixel at share `at` of the side."""
    start = (at[:, None] * side).floor() - length // 2
    steps = torch.arange(side)
    return (steps >= start) & (steps < start + length)
