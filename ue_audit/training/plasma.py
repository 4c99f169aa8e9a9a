"""Plasma fractals by the diamond-square rule, for a whole batch: smooth random maps with detail at every scale.

Four corners are uniform on [0,1]. Each round halves the distance of the known places; a new place takes

    (1 - s) * mean(its nearest known places) + s * u,   u uniform on [0,1],   s = roughness^round

first the middle of every square, then the middles of their sides. Values stay in [0,1] and have mean 1/2. Little
roughness gives a slope across the map, roughness 1 white noise.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SOURCE = "Fournier, Fussell and Carpenter, Computer rendering of stochastic models, CACM 1982"


def fractals(roughness: Tensor, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """(n,C,H,W) in [0,1], on the CPU: a map of its own for every channel, of the roughness (n,) of its image."""
    channels, tall, wide = shape
    rounds = max(max(tall, wide) - 2, 0).bit_length()  # 2^rounds + 1 places cover the longer side
    rough = roughness.repeat_interleave(channels).view(-1, 1, 1)
    places = torch.rand(len(rough), 2, 2, generator=generator)
    for number in range(1, rounds + 1):
        places = refine(places, rough**number, generator)
    return places[:, :tall, :wide].reshape(len(roughness), *shape)


def refine(known: Tensor, s: Tensor, generator: torch.Generator) -> Tensor:
    """(m,k,k) -> (m,2k-1,2k-1): the known places, and between them new ones with a share `s` (m,1,1) of chance."""

    def new(mean: Tensor) -> Tensor:
        return torch.lerp(mean, torch.rand(mean.shape, generator=generator), s)

    side = 2 * known.shape[-1] - 1
    places = known.new_empty(len(known), side, side)
    along = known[:, :, :-1] + known[:, :, 1:]  # sums of the two ends of a side
    middles = new((along[:, :-1] + along[:, 1:]) / 4)
    places[:, ::2, ::2], places[:, 1::2, 1::2] = known, middles
    places[:, ::2, 1::2] = new(_mean(along, middles))
    places[:, 1::2, ::2] = new(_mean((known[:, :-1] + known[:, 1:]).mT, middles.mT).mT)
    return places


def _mean(ends: Tensor, middles: Tensor) -> Tensor:
    """(m,k,k-1): of a side's two ends and of the middles above and below it; there is one alone at the border."""
    count = torch.full((ends.shape[1], 1), 4.0)
    count[0] = count[-1] = 3
    return (ends + F.pad(middles, (0, 0, 1, 0)) + F.pad(middles, (0, 0, 0, 1))) / count
