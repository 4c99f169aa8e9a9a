"""REMN: robust error-minimising noise, made to survive a learner that augments and trains adversarially.

    min over theta  sum_i  min over |d_i| <= eps  E over t  max over |a| <= radius  CE(f_theta(t(x_i + d_i) + a), y_i)

t is a random crop and flip, drawn for each image by itself. Every surrogate step draws a batch, finds its noise afresh
and trains on t(x + d) + a; when the surrogate is done, one last pass finds the noise of every image, and that is the
result. Inside the search for d the worst a is `inner: pgd`; `random` puts uniform noise in its place (SEM), `none`
leaves it out. The surrogate itself always meets the worst a.

    d <- project(d - alpha sign(sum_k J_k^T g_k)),   g_k = grad_v CE(f(v), y) at v = t_k(x + d) + a_k,   a_k constant

Differs from the authors' code: their last pass drops the last incomplete batch, whose images keep stale noise; here
it covers every image. What is found on the way is used at once and never stored, so one table of noise is all the
memory there is. The noise depends on names and seed, not on the order of the files, and a resumed run gives the same
bytes.
"""

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ue_audit.config import Config as Base
from ue_audit.config import Levels
from ue_audit.tools import Tools, substream
from ue_audit.training import backbones, cost, fit, minmin, pgd
from ue_audit.training.noise import Noise
from ue_audit.training.rows import in_order, labels_of

SOURCE = "Fu et al., Robust Unlearnable Examples, arXiv 2203.14533, Algorithm 1 (SEM: Liu et al., arXiv 2311.13091)"
BUDGET = "linf"
NEEDS = ("labels",)
DROPS, DROP = (0.4, 0.8), 0.1  # the learning rate falls to a tenth at these shares of the surrogate's steps
SAVE_SECONDS = 30.0
LAST_PIXELS = 2**17  # of a batch of the last pass: 128 images of 32 px
Stream = Callable[..., torch.Generator]  # names -> a private generator


class Config(Base):
    """Defaults: what protects some thousand small images on a laptop in minutes (2,000: 347 passes an image).

    4 x 500 images of CIFAR-10, `small`, 15 epochs, 3 training seeds: protected 47.8 % (45.7, 49.2, 48.5), noise of the
    same norm 79.7 %, clean 80.1 %; with 10 steps of 1.6/255, at twice the cost, 42.0 and 80.3 % (one crafting each).
    Victims that train adversarially, at whom this is aimed: unmeasured.
    """

    surrogate: Literal["small-fine", "small", "resnet18"] = "small-fine"
    surrogate_steps: int = Field(300, ge=1)  # S: batches whose noise is found and trained on
    batch: int = Field(64, ge=2)
    lr: float = Field(0.1, gt=0)
    weight_decay: float = Field(5e-4, ge=0)
    shift: float = Field(0.125, ge=0, le=0.5)  # t: random crops (share of the side), mirrored if > 0
    eps: Levels = Field(8 / 255, gt=0, le=1)
    alpha: Levels = Field(3.2 / 255, gt=0, le=1)  # signed step of the noise
    steps: int = Field(5, ge=1)  # from a uniform random start
    transforms: int = Field(2, ge=1)  # draws of t and a per signed step
    inner: Literal["pgd", "random", "none"] = "pgd"  # a in the search for d
    radius: Levels = Field(4 / 255, ge=0, le=1)  # of a
    inner_alpha: Levels = Field(2 / 255, gt=0, le=1)  # signed step of a
    inner_steps: int = Field(2, ge=1)  # from a uniform random start

    @model_validator(mode="after")
    def _weaker(self) -> "Config":
        if self.radius > self.eps:
            raise ValueError("radius is above eps: noise cannot hold against an adversary that can undo it")
        return self

    def view(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """t(x): every image by its own draw."""
        return minmin.crop_and_flip(x, self.shift, generator)


def generate(data: Any, config: Config, tools: Tools) -> Callable[[Tensor], Tensor]:
    """delta(rows) -> (B,3,S,S) in [-eps, eps] with x + delta in [0,1]. Raises UsageError without two classes."""
    labels, order = labels_of(data), in_order(data)
    _announce(data, config, tools)
    model = train(data, labels, order, config, tools)
    noise = last_pass(model, data, labels, order, config, tools)
    return lambda rows: pgd.project(data.batch(rows), noise[rows], config.eps)


def train(data: Any, labels: Tensor, order: Tensor, config: Config, tools: Tools) -> nn.Module:
    """The surrogate after S steps of adversarial training on noise that is found anew at every step. Frozen."""
    model = backbones.build(config.surrogate, len(data.classes), substream(tools.seed, "surrogate")).to(tools.device)
    optimiser = torch.optim.SGD(model.parameters(), config.lr, momentum=0.9, weight_decay=config.weight_decay)
    first = _resume(model, optimiser, tools)
    tools.progress.start("crafting", config.surrogate_steps, "steps")
    tools.progress.advance(first)
    for step in range(first, config.surrogate_steps):
        rows, stream = order[minmin.drawn(len(data), config.batch, step, tools)], partial(tools.generator, "step", step)
        x, y = data.batch(rows).to(tools.device), labels[rows].to(tools.device)
        fit.freeze(model, True)
        d = find(model, x, y, config, partial(stream, "noise"))
        seen = config.view(x + d, stream("view"))
        a = adversary(model, seen, y, "pgd", config, stream("adversary"))
        fit.freeze(model, False)
        optimiser.param_groups[0]["lr"] = rate(step, config)
        loss = fit.train_step(model, optimiser, seen + a, y)
        done = step + 1 == config.surrogate_steps  # every part of the last pass must see the same network
        tools.save("search", partial(_state, model, optimiser, step + 1), 0 if done else SAVE_SECONDS)
        tools.progress.advance(1, loss=loss)
    fit.freeze(model, True)
    return model


def find(model: nn.Module, x: Tensor, y: Tensor, config: Config, stream: Stream) -> Tensor:
    """d of a batch by signed steps from a random start, against a frozen model; whole levels, as they are written."""
    d = pgd.project(x, uniform(x, config.eps, stream("start")), config.eps)
    calls = itertools.count()

    def gradient(u: Tensor) -> Tensor:
        return expected_gradient(model, u, y, config, partial(stream, next(calls)))

    d = pgd.descend(x, d, gradient, eps=config.eps, alpha=config.alpha, steps=config.steps)
    return pgd.project(x, (255 * d).round() / 255, config.eps)


def expected_gradient(model: nn.Module, u: Tensor, y: Tensor, config: Config, stream: Stream) -> Tensor:
    """sum_k J_k^T g_k: the gradients at the network's input, pulled back through crop and flip. u = x + d (B,3,S,S)."""
    ys = y.repeat(config.transforms)

    def loss(u: Tensor) -> Tensor:
        seen = config.view(u.repeat(config.transforms, 1, 1, 1), stream("view"))  # (KB,3,S,S)
        a = adversary(model, seen.detach(), ys, config.inner, config, stream("adversary"))
        return len(ys) * fit.loss_of(model, seen + a, ys)

    return pgd.pixel_gradient(loss)(u)


def adversary(
    model: nn.Module, seen: Tensor, y: Tensor, kind: str, config: Config, generator: torch.Generator
) -> Tensor:
    """a with |a| <= radius and seen + a in [0,1]: the one that raises the loss, uniform noise, or zero."""
    if kind == "none" or not config.radius:
        return torch.zeros_like(seen)
    a = pgd.project(seen, uniform(seen, config.radius, generator), config.radius)
    if kind == "random":
        return a
    gradient = pgd.pixel_gradient(lambda v: len(y) * fit.loss_of(model, v, y))
    return pgd.descend(seen, a, gradient, eps=config.radius, alpha=-config.inner_alpha, steps=config.inner_steps)


def last_pass(
    model: nn.Module, data: Any, labels: Tensor, order: Tensor, config: Config, tools: Tools
) -> Noise:
    """The noise of every image against the final network, batch by batch in the order of names, each found once."""
    noise = Noise(tools.array("noise", (len(data), 3, data.size, data.size), "float16"))
    parts = torch.split(order, max(1, LAST_PIXELS // data.size**2))
    done = tools.array("found", (len(parts),), "uint8")
    tools.progress.start("last pass", len(data))
    for number, rows in enumerate(parts):
        if not done[number]:
            x, y = data.batch(rows).to(tools.device), labels[rows].to(tools.device)
            noise[rows] = find(model, x, y, config, partial(tools.generator, "last", number))
            done[number] = 1
        tools.progress.advance(len(rows))
    return noise


def uniform(x: Tensor, radius: float, generator: torch.Generator) -> Tensor:
    """Noise in [-radius, radius] of the shape of x, drawn on the CPU."""
    return (radius * (2 * torch.rand(x.shape, generator=generator) - 1)).to(x.device)


def rate(step: int, config: Config) -> float:
    """Learning rate of `step` (from 0)."""
    return config.lr * DROP ** sum(step >= share * config.surrogate_steps for share in DROPS)


def _state(model: nn.Module, optimiser: torch.optim.Optimizer, step: int) -> dict[str, Any]:
    return {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step}


def _resume(model: nn.Module, optimiser: torch.optim.Optimizer, tools: Tools) -> int:
    """The step to go on from."""
    saved = fit.resume(tools, "search", model, optimiser)
    if saved is None:
        return 0
    return int(saved["step"])


def passes(config: Config, images: int) -> float:
    """Per image: visits x (search for d + adversary and step of the surrogate) + the last search."""
    search = config.steps * config.transforms * (1 + (config.inner_steps if config.inner == "pgd" else 0))
    visits = config.surrogate_steps * min(config.batch, images) / images
    return visits * (search + config.inner_steps + 1) + search


def estimate(data: Any, config: Config, tools: Tools) -> float:
    """Seconds, from one timed gradient."""
    each = cost.seconds_per_pass(data, config.surrogate, config.view, tools)
    return each * passes(config, len(data)) * len(data)


def _announce(data: Any, config: Config, tools: Tools) -> None:
    """The cost, before it is paid."""
    each, seconds = passes(config, len(data)), estimate(data, config, tools)
    tools.note("passes_per_image", round(each, 1))
    tools.progress.say(f"{each:,.0f} forward and backward passes an image; about {seconds:,.0f} s")
