"""Learning without labels from two views a, b of every image: SimCLR, MoCo v2 and BYOL, as networks with a loss.

    SimCLR   NT-Xent of the 2B projections of both views: each finds its partner among 2B - 1 others
    MoCo v2  InfoNCE: the query of a finds the key of b among a queue of keys of earlier batches
    BYOL     -(cos(p(a), z'(b)) + cos(p(b), z'(a))) / 2: a predictor p on one side, a slow target z' on the other

Keys and targets come from a copy of encoder and projector that follows the learnt weights by an exponential moving
average (EMA). Losses with a temperature T are multiplied by T / 0.07, as in the code behind the published poisons:
their learning rates belong to that scale. Heads keep the published shapes in proportion to the features' width (512
for ResNet-18). One device, so batch norm is not shuffled between queries and keys.

`compute` changes nothing but the running statistics of batch norms in training mode: EMA and queue move in `advance`,
after a step of the weights, and stand still while noise is crafted. With `dual` the gradient reaches the images through
the key or target branch, too; the target's own weights never have one.
"""

import copy
import math
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ue_audit.config import Config
from ue_audit.tools import substream
from ue_audit.training import backbones, fit
from ue_audit.training.backbones import headless
from ue_audit.training.views import Views, view

Algorithm = Literal["simclr", "moco", "byol"]

BASE_TEMPERATURE = 0.07  # losses are multiplied by T / 0.07
BASE_BATCH = 512  # the published learning rates are for this many images a step
LAST_RATE = 1e-3  # the cosine ends at this share of the learning rate


class Published(NamedTuple):
    """Constants that the published poisons and their victims share."""

    lr: float  # at `BASE_BATCH`
    hidden: int  # width of the heads' hidden layer, in widths of the features
    out: int  # width of a projection


PUBLISHED = {
    "simclr": Published(lr=0.5, hidden=1, out=128),
    "moco": Published(lr=0.3, hidden=1, out=128),
    "byol": Published(lr=1.0, hidden=8, out=256),
}
TEMPERATURE = {"simclr": 0.5, "moco": 0.2}
VIEWS = Views.model_validate({})


class Settings(Config):
    """What a contrastive training is made of, whatever decides its length. Published: batch 512, queue 4096, and an
    `ema` of 0.99 for MoCo, 0.999 for BYOL."""

    batch: int = Field(128, ge=2)  # images per step, two views of each
    lr_scale: float = Field(1.0, gt=0)  # times the published rate, which is scaled with batch / 512
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    ema: float = Field(0.99, ge=0, lt=1)  # MoCo, BYOL: what the target keeps of itself per step
    queue: int = Field(1024, ge=1)  # MoCo: keys remembered, at most half as many as there are images
    views: Views = VIEWS


class Recipe(Settings):
    """A whole training, in passes over the images."""

    epochs: int = Field(100, ge=1)
    warmup: float = Field(0.0, ge=0, lt=1)  # share of the steps over which the rate climbs linearly


class Contrast(nn.Module):
    """Encoder and projector, `online`; what an algorithm needs beside them is added by its class."""

    def __init__(self, online: nn.Sequential) -> None:
        super().__init__()
        self.online = online

    def compute(self, a: Tensor, b: Tensor, dual: bool = False) -> tuple[Tensor, Tensor | None]:
        """The mean loss of views a, b (B,3,S,S) of the same images, and the keys for `advance` (MoCo's)."""
        raise NotImplementedError

    def loss(self, a: Tensor, b: Tensor, dual: bool = False) -> Tensor:
        return self.compute(a, b, dual)[0]

    def advance(self, keys: Tensor | None) -> None:
        """What follows a step of the weights: the target's average, the queue."""

    def learnt(self) -> list[nn.Parameter]:
        """The weights that gradients train: all but the target's."""
        return [weight for name, weight in self.named_parameters() if not name.startswith("target.")]

    def freeze(self, frozen: bool) -> "Contrast":
        """Evaluation mode without weight gradients, to craft noise; or back to training."""
        for weight in self.learnt():
            weight.requires_grad_(not frozen)
        return self.train(not frozen)

    def features(self, x: Tensor) -> Tensor:
        """What a linear probe reads: the encoder's output (B,F) float32, evaluation mode, without gradients."""
        self.eval()
        with torch.no_grad():
            return embed(self.online[0], x)


class SimCLR(Contrast):
    def compute(self, a: Tensor, b: Tensor, dual: bool = False) -> tuple[Tensor, Tensor | None]:
        return nt_xent(embed(self.online, torch.cat([a, b])), TEMPERATURE["simclr"]), None


class Followed(Contrast):
    """With a target: a copy of `online` that follows its weights by EMA."""

    def __init__(self, online: nn.Sequential, ema: float) -> None:
        super().__init__(online)
        self.target = copy.deepcopy(online).requires_grad_(False)
        self.ema = ema

    def aim(self, x: Tensor, dual: bool) -> Tensor:
        """The target's projections; their gradient reaches x if `dual`."""
        with torch.set_grad_enabled(dual and torch.is_grad_enabled()):
            return embed(self.target, x)

    @torch.no_grad()
    def advance(self, keys: Tensor | None) -> None:
        for slow, fast in zip(self.target.parameters(), self.online.parameters(), strict=True):
            slow.lerp_(fast, 1 - self.ema)


class MoCo(Followed):
    queue: Tensor  # (Q,D) keys of unit norm, random at first
    at: Tensor  # where the next key goes

    def __init__(self, online: nn.Sequential, ema: float, queue: Tensor) -> None:
        super().__init__(online, ema)
        self.register_buffer("queue", F.normalize(queue, dim=1))
        self.register_buffer("at", torch.zeros((), dtype=torch.long))

    def compute(self, a: Tensor, b: Tensor, dual: bool = False) -> tuple[Tensor, Tensor | None]:
        queries, keys = F.normalize(embed(self.online, a), dim=1), F.normalize(self.aim(b, dual), dim=1)
        return info_nce(queries, keys, self.queue, TEMPERATURE["moco"]), keys.detach()

    @torch.no_grad()
    def advance(self, keys: Tensor | None) -> None:
        super().advance(keys)
        if keys is not None:
            keys = keys[-len(self.queue) :]
            places = (self.at + torch.arange(len(keys), device=keys.device)) % len(self.queue)
            self.queue[places] = keys
            self.at.copy_((self.at + len(keys)) % len(self.queue))


class BYOL(Followed):
    def __init__(self, online: nn.Sequential, ema: float, predictor: nn.Module) -> None:
        super().__init__(online, ema)
        self.predictor = predictor

    def compute(self, a: Tensor, b: Tensor, dual: bool = False) -> tuple[Tensor, Tensor | None]:
        predicted = embed(nn.Sequential(self.online, self.predictor), torch.cat([a, b]))
        aimed = self.aim(torch.cat([b, a]), dual)
        return -F.cosine_similarity(predicted, aimed).mean(), None


def build(algorithm: Algorithm, backbone: str, seed: int, settings: Settings, images: int) -> Contrast:
    """Freshly initialised for a set of that many images; equal seeds give equal weights. Raises UsageError."""
    encoder, width = headless(backbones.build(backbone, 2, seed))
    shape = PUBLISHED[algorithm]
    hidden, norm = width * shape.hidden, algorithm == "byol"
    with backbones.INITIALISING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(substream(seed, "heads"))
        online = nn.Sequential(encoder, mlp(width, hidden, shape.out, norm))
        if algorithm == "simclr":
            return SimCLR(online)
        if algorithm == "moco":
            return MoCo(online, settings.ema, torch.randn(max(1, min(settings.queue, images // 2)), shape.out))
        return BYOL(online, settings.ema, mlp(shape.out, hidden, shape.out, norm))


def mlp(inputs: int, hidden: int, outputs: int, norm: bool) -> nn.Module:
    """A head of one hidden layer; BYOL's has batch norm in it."""
    between = [nn.BatchNorm1d(hidden), nn.ReLU()] if norm else [nn.ReLU()]
    return nn.Sequential(nn.Linear(inputs, hidden), *between, nn.Linear(hidden, outputs))


def embed(network: nn.Module, x: Tensor) -> Tensor:
    """(B,F) float32 of x (B,3,S,S) in [0,1]."""
    with fit.precision(x.device):
        return network(x.contiguous(memory_format=torch.channels_last)).float()  # type: ignore[no-any-return]


# -- losses ----------------------------------------------------------------------------------------------------


def nt_xent(z: Tensor, temperature: float) -> Tensor:
    """NT-Xent of projections (2B,D), the second half the partners of the first, times T / 0.07."""
    z = F.normalize(z, dim=1)
    logits = (z @ z.T / temperature).fill_diagonal_(-math.inf)
    partners = torch.arange(len(z), device=z.device).roll(len(z) // 2)
    return temperature / BASE_TEMPERATURE * F.cross_entropy(logits, partners)


def info_nce(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """InfoNCE of queries and keys (B,D) against a queue (Q,D), all of unit norm, times T / 0.07."""
    own = (queries * keys).sum(1, keepdim=True)
    logits = torch.cat([own, queries @ queue.T], dim=1) / temperature  # (B, 1 + Q)
    first = torch.zeros(len(logits), dtype=torch.long, device=logits.device)
    return temperature / BASE_TEMPERATURE * F.cross_entropy(logits, first)


# -- training --------------------------------------------------------------------------------------------------


def sgd(model: Contrast, settings: Settings) -> torch.optim.SGD:
    """SGD on the learnt weights; its rate is set before each step, see `rate`."""
    return torch.optim.SGD(model.learnt(), 0.0, settings.momentum, weight_decay=settings.weight_decay)


def rate(step: int, steps: int, algorithm: Algorithm, settings: Settings, warmup: float = 0.0) -> float:
    """Learning rate of `step` (from 0) of `steps`: a cosine to a thousandth of the first, after a linear climb."""
    top = PUBLISHED[algorithm].lr * settings.lr_scale * settings.batch / BASE_BATCH
    cosine = LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + math.cos(math.pi * step / steps))
    return top * min(cosine, (step + 1) / (warmup * steps) if warmup else 1.0)


def pair(x: Tensor, settings: Views, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two independent views of every image."""
    return view(x, settings, generator), view(x, settings, generator)


def train_step(model: Contrast, optimiser: torch.optim.Optimizer, a: Tensor, b: Tensor) -> float:
    """One step of the weights on two views of a batch, then of EMA and queue; returns the loss."""
    model.train()
    loss, keys = model.compute(a, b)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
    model.advance(keys)
    return float(loss.detach())
