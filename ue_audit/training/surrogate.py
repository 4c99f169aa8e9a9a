"""A classifier trained on the owner's clean images, against whose frozen weights noise is crafted.

A share of every class is held out and measures how well it learnt: noise follows what a surrogate has understood, so
one that understood nothing is refused. Batches, views and the held-out images are drawn in the order of the images'
names, and a training that was killed goes on to the same weights.
"""

import copy
import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from ue_audit.errors import UsageError
from ue_audit.tools import Tools, substream
from ue_audit.training import backbones, fit
from ue_audit.training.rows import in_order

SAVE_SECONDS = 60.0
MEASURE_BATCH = 256  # images per forward pass; has no effect but on speed
MEASURABLE = 5  # held-out images a class needs for its accuracy to count

View = Callable[[Tensor, torch.Generator], Tensor]  # images as a network sees them, by the draws of a generator


class Training(fit.Recipe):
    """The surrogate and how it is trained."""

    surrogate: Literal["small", "small-fine", "resnet18"] = "small"
    epochs: int = Field(20, ge=1)
    min_surrogate_steps: int = Field(400, ge=0)  # a small set is passed more often than `epochs`, up to this many steps
    batch: int = Field(64, ge=2)
    lr: float = Field(0.1, gt=0)
    held_out: float = Field(0.1, ge=0, lt=1)  # share of each class, rounded down, that measures the surrogate
    min_accuracy: float = Field(0.2, ge=0, le=1)  # on those, as a share of the way from chance to 100 %


def train(
    data: Any, labels: Tensor, config: Training, tools: Tools, view: View, checkpoints: int = 1
) -> list[nn.Module]:
    """Frozen networks on the device from evenly spaced steps of one training, the finished one last.

    Raises UsageError if it learnt too little for noise to follow it.
    """
    rows, held_out = split(data, labels, config.held_out, tools)
    steps, per_pass = _steps(len(rows), config)
    marks = [-(-steps * k // checkpoints) for k in range(1, checkpoints + 1)]
    model = backbones.build(config.surrogate, len(data.classes), substream(tools.seed, "surrogate")).to(tools.device)
    optimiser = fit.sgd(model, config)
    done = _resume(model, optimiser, tools)
    networks = [_restored(model, mark, tools) for mark in marks if mark <= done]
    tools.progress.start("training the surrogate", steps, "steps")
    tools.progress.advance(done)
    for step in range(done, steps):
        if step == done or step % per_pass == 0:
            batches = list(fit.batches(len(rows), config.batch, tools.generator("order", step // per_pass)))
        batch = rows[batches[step % per_pass]]
        optimiser.param_groups[0]["lr"] = fit.rate(step, steps, config)
        x = view(data.batch(batch).to(tools.device), tools.generator("training view", step))
        loss = fit.train_step(model, optimiser, x, labels[batch].to(tools.device))
        if step + 1 in marks:
            networks += [copy.deepcopy(model)] * marks.count(step + 1)
            tools.save(f"checkpoint-{step + 1}", model.state_dict)
        every = SAVE_SECONDS if step + 1 < steps else 0.0
        tools.save("surrogate", lambda at=step + 1: _state(model, optimiser, at), every)  # type: ignore[misc]
        tools.progress.advance(1, loss=loss)
    networks = [fit.freeze(network) for network in networks]
    _judge(accuracy(networks[-1], data, labels, held_out, tools), len(data.classes), config, tools)
    return networks


def cropped(config: fit.Recipe) -> View:
    """Random crops and flips, each image with its own."""
    return lambda x, generator: fit.seen(x, config, generator)


def split(data: Any, labels: Tensor, share: float, tools: Tools) -> tuple[Tensor, Tensor]:
    """Rows to train on and rows held out, `share` of every class rounded down, both in the order of names."""
    order = in_order(data)
    held = torch.zeros(len(data), dtype=torch.bool)
    for number, name in enumerate(data.classes):
        of_class = order[labels[order] == number]
        drawn = torch.randperm(len(of_class), generator=tools.generator("held out", name))
        held[of_class[drawn[: int(share * len(of_class))]]] = True
    return order[~held[order]], order[held[order]]


def accuracy(network: nn.Module, data: Any, labels: Tensor, rows: Tensor, tools: Tools) -> float | None:
    """Mean over classes of the share named right, of classes with enough of these rows; None if there are none."""
    right = torch.zeros(len(rows), dtype=torch.bool)
    for some in torch.split(torch.arange(len(rows)), MEASURE_BATCH):
        logits = fit.logits_of(network, data.batch(rows[some]).to(tools.device))
        right[some] = logits.argmax(1).cpu() == labels[rows[some]]
    classes = [right[labels[rows] == number] for number in range(len(data.classes))]
    shares = [float(of_class.float().mean()) for of_class in classes if len(of_class) >= MEASURABLE]
    return sum(shares) / len(shares) if shares else None


def features_of(network: nn.Module, x: Tensor) -> Tensor:
    """What the last layer of a network reads, (B,F) float32."""
    body = nn.Sequential(*list(network.children())[:-1], nn.Flatten())
    with fit.precision(x.device):
        return body(x.contiguous(memory_format=torch.channels_last)).float()  # type: ignore[no-any-return]


def cross_entropy(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """CE(f(x), y) of each image, (B,)."""
    with fit.precision(x.device):
        logits = network(x.contiguous(memory_format=torch.channels_last))
    return F.cross_entropy(logits.float(), y, reduction="none")


def passes(config: Training, images: int) -> float:
    """Forward and backward passes per image of a training on a set of `images`."""
    kept = max(1, images - int(config.held_out * images))
    return _steps(kept, config)[0] * min(config.batch, kept) / max(1, images)


def _steps(images: int, config: Training) -> tuple[int, int]:
    """Optimiser steps in all and in a pass."""
    per_pass = images // min(config.batch, images)
    return max(config.epochs, math.ceil(config.min_surrogate_steps / per_pass)) * per_pass, per_pass


def _judge(measured: float | None, classes: int, config: Training, tools: Tools) -> None:
    """The accuracy into the manifest; below the floor a UsageError, unmeasured a warning."""
    tools.note("surrogate_accuracy", measured)
    if measured is None:
        warning = "the surrogate's accuracy is not measured: no class is large enough to hold images out"
        tools.warn(warning)
        return
    floor = 1 / classes + config.min_accuracy * (1 - 1 / classes)
    if measured < floor:
        raise UsageError(
            f"expected a surrogate that names {floor:.0%} of held-out clean images right, found {measured:.0%}: noise "
            "made with it would protect little",
            hint="train it longer (--set epochs=…), add images, or lower min_accuracy",
        )


def _state(model: nn.Module, optimiser: torch.optim.Optimizer, step: int) -> dict[str, Any]:
    return {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step}


def _resume(model: nn.Module, optimiser: torch.optim.Optimizer, tools: Tools) -> int:
    """Steps done."""
    saved = fit.resume(tools, "surrogate", model, optimiser)
    if saved is None:
        return 0
    return int(saved["step"])


def _restored(model: nn.Module, mark: int, tools: Tools) -> nn.Module:
    network = copy.deepcopy(model)
    network.load_state_dict(tools.restore(f"checkpoint-{mark}") or {})
    return network
