"""A variational autoencoder with two decoders: one for the image, one for what was put on it, told the class.

    h = encoder(x),   mu, log s^2 = convolutions of h,   z = mu + s n,   n ~ N(0, I)
    x^ = image(z),   p = perturbation(z + E_y)

The code z has a quarter of the image's places. Its rate, KL(N(mu, s^2) || N(0, I)) at each place, is what a loss can
keep down: what is cheap to say of an image is said by x^, what the class alone foretells by p.
"""

from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.resnet import BasicBlock

from ue_audit.config import Config
from ue_audit.training import backbones, fit

HALVED = 2  # the side is padded to a multiple of this


class Shape(Config):
    """The networks; `width` 64, `blocks` 2, `latent` 256 and instance norms are the published ones."""

    width: int = Field(64, ge=2)  # channels of the whole image; twice as many at half its side
    blocks: int = Field(2, ge=0)  # residual, of the whole image
    latent: int = Field(256, ge=1)  # numbers at each place of the code
    norm: Literal["instance", "none"] = "instance"  # of the decoders


class Coded(NamedTuple):
    """What becomes of a batch x (B,3,S,S)."""

    image: Tensor  # x^ (B,3,S,S) in [0,1]
    perturbation: Tensor  # p (B,3,S,S), unbounded
    rate: Tensor  # (B,) KL in nats, the mean over places


class Vae(nn.Module):
    """`forward(x, y, noise)`: x in [0,1], y class numbers, `noise` (B, *code_shape) or None for z = mu."""

    def __init__(self, shape: Shape, classes: int, size: int) -> None:
        super().__init__()
        width, self.side = shape.width, side_for(size)
        self.encoder = nn.Sequential(
            backbones.unit(3, width), *(BasicBlock(width, width) for _ in range(shape.blocks)), _halving(width)
        )
        self.moments = nn.Conv2d(2 * width, 2 * shape.latent, 1)
        self.widen = nn.Conv2d(shape.latent, 2 * width, 1)
        self.classes = nn.Embedding(classes, 2 * width * (self.side // HALVED) ** 2)
        self.image = _decoder(shape)
        self.perturbation = _decoder(shape)

    def forward(self, x: Tensor, y: Tensor, noise: Tensor | None) -> Coded:
        size = x.shape[-1]
        margin = self.side - size
        padded = F.pad(x, (0, margin, 0, margin), mode="replicate").contiguous(memory_format=torch.channels_last)
        with fit.precision(x.device):
            mu, log_s2 = self.moments(self.encoder(padded)).float().chunk(2, dim=1)
            code = self.widen(mu if noise is None else mu + (log_s2 / 2).exp() * noise)
            image, perturbation = self.image(code), self.perturbation(code + self.classes(y).view_as(code))
        rate = 0.5 * (mu.square() + log_s2.exp() - 1 - log_s2).sum(1).mean((1, 2))
        return Coded(image.float().sigmoid()[..., :size, :size], perturbation.float()[..., :size, :size], rate)


def build(shape: Shape, classes: int, size: int, seed: int) -> Vae:
    """A freshly drawn network for images of a side of `size`; equal seeds give equal weights."""
    with backbones.INITIALISING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Vae(shape, classes, size)
    return network.to(memory_format=torch.channels_last)


def code_shape(shape: Shape, size: int) -> tuple[int, int, int]:
    """Of the code of one image."""
    places = side_for(size) // HALVED
    return shape.latent, places, places


def side_for(size: int) -> int:
    """The side the network works at: the next even number. What is too much is cut off again."""
    return HALVED * -(-size // HALVED)


def _halving(width: int) -> nn.Module:
    """The first block of ResNet-18's second stage."""
    shortcut = nn.Sequential(nn.Conv2d(width, 2 * width, 1, HALVED, bias=False), nn.BatchNorm2d(2 * width))
    block: nn.Module = BasicBlock(width, 2 * width, HALVED, shortcut)
    return block


def _decoder(shape: Shape) -> nn.Module:
    """(B, 2 width, S/2, S/2) -> (B,3,S,S), unbounded."""
    width, half = shape.width, shape.width // 2
    return nn.Sequential(
        nn.ConvTranspose2d(2 * width, width, 4, HALVED, 1),
        nn.ConvTranspose2d(width, width, 3, 1, 1),
        *_normed(shape, width),
        nn.ConvTranspose2d(width, half, 3, 1, 1),
        *_normed(shape, half),
        nn.ConvTranspose2d(half, 3, 3, 1, 1),
    )


def _normed(shape: Shape, width: int) -> list[nn.Module]:
    return [nn.InstanceNorm2d(width), nn.ReLU()] if shape.norm == "instance" else [nn.ReLU()]
