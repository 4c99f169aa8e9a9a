"""PIL: perturbation-induced linearisation. The surrogate is linear, so that a set takes seconds and no accelerator.

A linear classifier g(x) = W2 W1 x, without biases, is trained on the clean images. Then every image gets a map n
that g takes for its class while it can tell nothing from x - n, and n is subtracted:

    min over |n| <= eps:  l CE(g(n), y) + (1 - l) KL(uniform || softmax g(x - n)),   x_ue = clip(x - n)

by signed steps from uniform noise. Networks trained on x_ue become linear: -n is what they read. With M = W2 W1 the
gradient is M^T (l (softmax(Mn) - y) - (1 - l) (softmax(Mx - Mn) - 1/K)), written out here.

Differs from the authors' code: batches of a training epoch are shuffled, the learning rate falls at every step, seeds
and file names decide everything, and 8-bit images are written. Nothing but M is kept: the steps on an image are done
when its map is asked for, in double precision, so that no sign of a gradient depends on the batch. Images of another
size than the working one get their map resampled by the stage.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ue_audit.config import Config as Base
from ue_audit.config import Levels
from ue_audit.tools import Tools
from ue_audit.training import fit
from ue_audit.training.rows import in_order, labels_of

SOURCE = "Liu et al., Perturbation-Induced Linearization, arXiv 2601.19967, section 4"
BUDGET = "linf"
NEEDS = ("labels",)
MOMENTUM = 0.9
AT_ONCE = 2**18  # values of images in the signed steps at once, for 16 images or more
SAVE_EVERY = 30.0  # seconds


class Config(Base):
    """Defaults: what protects some thousand small images on a laptop.

    4 x 500 images of CIFAR-10, `small`, 15 epochs, 3 training seeds: protected 55.4 %, noise of the same norm 80.2 %,
    clean 80.1 %; at the published batch and rate, under which so few images make the surrogate no more than 120 steps,
    76.1 % (one crafting each).
    """

    eps: Levels = Field(8 / 255, gt=0, le=1)
    alpha: Levels = Field(0.8 / 255, gt=0, le=1)  # signed step
    steps: int = Field(30, ge=0)
    match: float = Field(0.9, ge=0, le=1)  # lambda: weight of g(n) being the class, against g(x - n) being uniform
    epochs: int = Field(30, ge=1)  # of the linear surrogate, on clean images
    batch: int = Field(64, ge=2)
    lr: float = Field(0.03, gt=0)  # cosine to 0


@dataclass(frozen=True)
class Maps:
    """-n of any rows."""

    data: Any
    labels: Tensor  # (N,)
    surrogate: Tensor  # M (K,D), float64
    config: Config
    tools: Tools

    def __call__(self, rows: Tensor) -> Tensor:
        many = max(16, AT_ONCE // self.surrogate.shape[1])
        return torch.cat([self._minus_n(some) for some in torch.split(rows, many)])

    def _minus_n(self, rows: Tensor) -> Tensor:
        x, config, device = self.data.batch(rows), self.config, self.surrogate.device
        draws = [self.tools.generator("start", self.data.keys[row]) for row in rows.tolist()]
        start = torch.stack([torch.rand(x[0].numel(), generator=generator) for generator in draws])  # (B,D)
        n = config.eps * (2 * start.to(device) - 1).double()
        y = F.one_hot(self.labels[rows].to(device), len(self.surrogate)).double()
        image = x.flatten(1).to(device).double() @ self.surrogate.T  # (B,K)
        for _ in range(config.steps):
            n.sub_(gradient(n, image, y, self.surrogate, config.match).sign_(), alpha=config.alpha)
            n.clamp_(-config.eps, config.eps)
        return -n.float().view_as(x)


def generate(data: Any, config: Config, tools: Tools) -> Callable[[Tensor], Tensor]:
    """delta(rows) -> (B,3,S,S) in [-eps, eps]. Raises UsageError without two classes."""
    labels = labels_of(data)
    return Maps(data, labels, train(data, labels, config, tools), config, tools)


def gradient(n: Tensor, image: Tensor, y: Tensor, surrogate: Tensor, match: float) -> Tensor:
    """Of l CE(Mn, y) + (1 - l) KL(u || softmax(Mx - Mn)) in n (B,D), with Mx = `image` (B,K), y one-hot."""
    logits = n @ surrogate.T
    pulled = match * (logits.softmax(1) - y)
    pushed = (1 - match) * ((image - logits).softmax(1) - 1 / len(surrogate))
    return (pulled - pushed) @ surrogate


def train(data: Any, labels: Tensor, config: Config, tools: Tools) -> Tensor:
    """M = W2 W1 (K,D) of a linear classifier trained on the clean images; goes on from where it was killed."""
    order = in_order(data)
    model = _linear(3 * data.size**2, len(data.classes), tools).to(tools.device)
    optimiser = torch.optim.SGD(model.parameters(), config.lr, momentum=MOMENTUM)
    cosine = {"epochs": config.epochs, "batch": config.batch, "lr": config.lr, "schedule": "cosine"}
    recipe, per_epoch = fit.Recipe.model_validate(cosine), len(data) // min(config.batch, len(data))
    done = _resume(model, optimiser, tools)
    tools.progress.start("training a linear surrogate", config.epochs, "epochs")
    tools.progress.advance(done)
    for epoch in range(done, config.epochs):
        for step, some in enumerate(fit.batches(len(data), config.batch, tools.generator("order", epoch))):
            optimiser.param_groups[0]["lr"] = fit.rate(epoch * per_epoch + step, config.epochs * per_epoch, recipe)
            rows = order[some]
            loss = F.cross_entropy(model(data.batch(rows).to(tools.device)), labels[rows].to(tools.device))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        every = SAVE_EVERY if epoch + 1 < config.epochs else 0.0
        tools.save("surrogate", lambda at=epoch + 1: _state(model, optimiser, at), every)  # type: ignore[misc]
        tools.progress.advance(1, loss=float(loss.detach()))
    first, second = (weights.detach().double() for weights in model.parameters())
    surrogate = second @ first
    return surrogate.cpu() if tools.device.type == "mps" else surrogate  # which has no float64


def _linear(inputs: int, classes: int, tools: Tools) -> nn.Sequential:
    """x -> W2 W1 x; entries start uniform within 1 / sqrt of the inputs of their layer."""
    layers = nn.Linear(inputs, classes, bias=False), nn.Linear(classes, classes, bias=False)
    generator = tools.generator("surrogate")
    for layer in layers:
        nn.init.uniform_(layer.weight, -(layer.in_features**-0.5), layer.in_features**-0.5, generator=generator)
    return nn.Sequential(nn.Flatten(), *layers)


def _state(model: nn.Module, optimiser: Any, epochs: int) -> dict[str, Any]:
    return {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "epochs": epochs}


def _resume(model: nn.Module, optimiser: Any, tools: Tools) -> int:
    """Epochs done before."""
    saved = fit.resume(tools, "surrogate", model, optimiser)
    if saved is None:
        return 0
    return int(saved["epochs"])


def passes(config: Config, images: int) -> float:
    """None of a network: the linear surrogate's are matrix products, `epochs` + `steps` an image."""
    return 0.0


def estimate(data: Any, config: Config, tools: Tools) -> float:
    """Seconds: reading the set every epoch, then the signed steps; a product with M costs as much as 10 classes."""
    values, products = 3 * data.size**2 * len(data), 1 + len(data.classes) / 10
    return float(1e-9 * values * products * (3 * config.epochs + 2 * config.steps))
