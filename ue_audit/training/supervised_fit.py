"""Training with labels: the loop behind `supervised` and every learner that hardens it.

What a learner adds is one function, `learn`, which turns a batch into a step of the weights; order, learning rate and
resume are the same for all, so that two learners differ in nothing but their idea.

Resume is exact: the state holds weights, momentum and the position in the epoch, and every batch and view is drawn
from a generator named by its epoch and step. An epoch's state is kept only once its `Epoch` was consumed.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from ue_audit.errors import UsageError
from ue_audit.tools import Epoch, Tools, substream
from ue_audit.training import backbones
from ue_audit.training import fit as loop

SAVE_SECONDS = 60.0


class Config(loop.Recipe):
    """What every training with labels declares. Defaults are for a laptop and some thousand images."""

    backbone: backbones.Backbone = "small"
    epochs: int = Field(15, ge=1)
    batch: int = Field(64, ge=2)
    lr: float = Field(0.1, gt=0)


class Lot(NamedTuple):
    """One batch, on the device, and the moment of training it belongs to."""

    x: Tensor  # (B,3,S,S) in [0,1], as stored
    y: Tensor  # (B,)
    rows: Tensor  # (B,) on the CPU
    epoch: int  # from 0
    step: int  # from 0, over all epochs
    tools: Tools

    def generator(self, name: str) -> torch.Generator:
        """A private generator of this step, on the CPU."""
        return self.tools.generator(name, self.step)


Learn = Callable[[nn.Module, torch.optim.Optimizer, Lot], float]
"""One step of the weights on a batch; returns its loss."""


def plain(config: loop.Recipe) -> Learn:
    """Cross-entropy of crops and mirror images."""

    def learn(model: nn.Module, optimiser: torch.optim.Optimizer, lot: Lot) -> float:
        return loop.train_step(model, optimiser, loop.seen(lot.x, config, lot.generator("views")), lot.y)

    return learn


def fit(data: Any, config: Config, tools: Tools, learn: Learn | None = None) -> Iterator[Epoch]:
    """One `Epoch` after each pass over `data`. Raises UsageError without labels or with one class."""
    return train(network(data, config, tools), data, config, tools, learn)


def network(data: Any, config: Config, tools: Tools) -> nn.Module:
    """The freshly initialised classifier on the device. Raises UsageError without labels or with one class."""
    labels_of(data)
    return backbones.build(config.backbone, len(data.classes), substream(tools.seed, "weights")).to(tools.device)


def train(
    model: nn.Module, data: Any, config: loop.Recipe, tools: Tools, learn: Learn | None = None
) -> Iterator[Epoch]:
    """As `fit`, of a model on the device."""
    labels, learn = labels_of(data), learn or plain(config)
    optimiser = loop.sgd(model, config)
    per_epoch = len(data) // min(config.batch, len(data))
    step, total = _resume(model, optimiser, tools)
    batch_of = loop.resident(data, tools.device)

    def state() -> dict[str, Any]:
        return {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "total": total}

    for epoch in range(step // per_epoch, config.epochs):
        order = list(loop.batches(len(data), config.batch, tools.generator("order", epoch)))
        for rows in order[step - epoch * per_epoch :]:
            optimiser.param_groups[0]["lr"] = loop.rate(step, per_epoch * config.epochs, config)
            lot = Lot(batch_of(rows), labels[rows].to(tools.device), rows, epoch, step, tools)
            total += learn(model, optimiser, lot)
            step += 1
            if step % per_epoch:
                tools.save("supervised", state, SAVE_SECONDS)
        yield Epoch(epoch + 1, total / per_epoch, lambda x: loop.logits_of(model, x.to(tools.device)))
        total = 0.0
        if step < per_epoch * config.epochs:  # so that a finished training that was not recorded ends once more
            tools.save("supervised", state, SAVE_SECONDS)


def labels_of(data: Any) -> Tensor:
    """The labels; UsageError where there is nothing to tell apart."""
    if data.labels is None:
        raise UsageError("supervised training needs one folder per class, found images without classes")
    if len(data.classes) < 2:
        raise UsageError(f"supervised training needs two classes or more, found {len(data.classes)}")
    return data.labels  # type: ignore[no-any-return]


def _resume(model: nn.Module, optimiser: torch.optim.Optimizer, tools: Tools) -> tuple[int, float]:
    """Step and summed loss to go on from."""
    saved = loop.resume(tools, "supervised", model, optimiser)
    if saved is None:
        return 0, 0.0
    return saved["step"], saved["total"]
