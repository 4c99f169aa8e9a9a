"""A map made by a network out of a fixed noise image: the residual image-to-image generator of UC.

    d = eps tanh(G(z)),   G trained by Adam on whatever gradient in d it is given,   z one image of U(0,1)

G is a 7x7 convolution, two that halve the side, residual blocks, two that double it, and a 7x7 convolution to three
channels. It only ever sees one image, so its norms are those of that image: a batch norm in training mode on a batch
of one. What it can make easily, textures that repeat, is what images with different contents can share.
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ue_audit.config import Config, Levels
from ue_audit.tools import Tools, substream
from ue_audit.training import backbones

SMALLEST_SIDE = 8  # below, nothing is left to reflect at a quarter of the side
LAST_RATE = 1e-6  # where the cosine ends
SAVE_SECONDS = 60.0

Pull = Callable[[Tensor, int], tuple[float, Tensor]]  # a map (1,3,S,S) and a step -> its loss and gradient


class Making(Config):
    """The generator and how it is trained."""

    eps: Levels = Field(16 / 255, gt=0, le=1)
    bound: Literal["tanh", "clip"] = "tanh"  # d = eps tanh(G), or tanh(G) clipped to eps, without gradient outside
    width: int = Field(16, ge=1)  # channels
    blocks: int = Field(2, ge=0)  # residual
    lr: float = Field(1e-3, gt=0)  # of Adam, falling along half a cosine
    weight_decay: float = Field(0.0, ge=0)


def learn(number: int, size: int, pull: Pull, steps: int, config: Making, tools: Tools) -> Tensor:
    """The map called `number`, (1,3,S,S) in [-eps, eps]; a training that was killed goes on to the same bytes."""
    maker = build(config.width, config.blocks, substream(tools.seed, "generator", number)).to(tools.device)
    side = side_for(size)
    z = torch.rand((1, 3, side, side), generator=tools.generator("input", number)).to(tools.device)
    optimiser = torch.optim.Adam(maker.parameters(), config.lr, weight_decay=config.weight_decay)
    done = _resume(number, maker, optimiser, tools)
    tools.progress.advance(done)
    for step in range(done, steps):
        optimiser.param_groups[0]["lr"] = rate(step, steps, config.lr)
        d = bounded(maker(z)[..., :size, :size], config)
        loss, slope = pull(d.detach(), step)
        optimiser.zero_grad()
        torch.autograd.backward(d, slope)
        optimiser.step()
        tools.save("map", lambda at=step + 1: _state(number, at, maker, optimiser), SAVE_SECONDS)  # type: ignore[misc]
        tools.progress.advance(1, loss=loss)
    with torch.no_grad():
        return bounded(maker(z)[..., :size, :size], config)


def bounded(raw: Tensor, config: Making) -> Tensor:
    """A map in [-eps, eps] out of what the network gives."""
    smooth = raw.tanh()
    return config.eps * smooth if config.bound == "tanh" else smooth.clamp(-config.eps, config.eps)


def rate(step: int, steps: int, top: float) -> float:
    """The learning rate at `step` (from 0) of `steps`, from `top` to `LAST_RATE`."""
    return LAST_RATE + (top - LAST_RATE) * (1 + math.cos(math.pi * step / steps)) / 2


def side_for(size: int) -> int:
    """The side the network works at: the next multiple of 4. What is too much is cut off its map."""
    return max(SMALLEST_SIDE, 4 * -(-size // 4))


def _state(number: int, step: int, maker: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    return {"number": number, "step": step, "maker": maker.state_dict(), "optimiser": optimiser.state_dict()}


def _resume(number: int, maker: nn.Module, optimiser: torch.optim.Optimizer, tools: Tools) -> int:
    """Steps done of this map."""
    saved = tools.restore("map")
    if saved is None or saved["number"] != number:
        return 0
    maker.load_state_dict(saved["maker"])
    optimiser.load_state_dict(saved["optimiser"])
    return int(saved["step"])


# -- the network -------------------------------------------------------------------------------------------


def build(width: int, blocks: int, seed: int) -> nn.Module:
    """A freshly drawn network (1,3,S,S) -> (1,3,S,S), unbounded, for a side of `side_for`."""
    with backbones.INITIALISING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.ReflectionPad2d(3),
            *_unit(nn.Conv2d(3, width, 7), width),
            *_unit(nn.Conv2d(width, 2 * width, 3, 2, 1), 2 * width),
            *_unit(nn.Conv2d(2 * width, 4 * width, 3, 2, 1), 4 * width),
            *(Block(4 * width) for _ in range(blocks)),
            *_unit(nn.ConvTranspose2d(4 * width, 2 * width, 3, 2, 1, 1), 2 * width),
            *_unit(nn.ConvTranspose2d(2 * width, width, 3, 2, 1, 1), width),
            nn.ReflectionPad2d(3),
            nn.Conv2d(width, 3, 7),
        )


class Block(nn.Module):
    """x + norm(conv(relu(norm(conv(x)))))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1),
            *_unit(nn.Conv2d(width, width, 3), width),
            nn.ReflectionPad2d(1),
            *_unit(nn.Conv2d(width, width, 3), width)[:2],
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.add(x, self.body(x))


def _unit(convolution: nn.Module, width: int) -> list[nn.Module]:
    return [convolution, nn.InstanceNorm2d(width, affine=True), nn.ReLU()]
