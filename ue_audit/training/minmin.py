"""The min-min search of error-minimising noise: rounds of training a surrogate, then bettering the noise.

    min over theta, min over {d}:  mean CE(f_theta(x + d), y),   |d| <= eps

What the noise is (a map per image, per class) and how it improves is the protection's; the rounds, the stop rule,
the best noise so far and the exact resume live here. Noise is held in 255ths of [0,1] as float16 tables in the work
folder: one is read, one is written and one keeps the best, so that a kill in mid-round loses the round and no more.
"""

import time
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ue_audit.config import Config, Levels
from ue_audit.errors import UsageError
from ue_audit.tools import Tools, substream
from ue_audit.training import augment, backbones, fit, pgd

DELTA_BATCH = 256  # images per gradient of the noise; has no effect on it but speed, the network being frozen


class Search(Config):
    """The surrogate and its rounds."""

    surrogate: Literal["small-fine", "small", "resnet18"] = "small-fine"
    surrogate_steps: int = Field(10, ge=1)  # M: optimiser steps per round
    batch: int = Field(64, ge=2)  # images per surrogate step
    lr: float = Field(0.1, gt=0)  # constant, as in the authors' code
    weight_decay: float = Field(5e-4, ge=0)
    clip_gradient: float = Field(5.0, gt=0)  # largest norm of the surrogate's gradient
    shift: float = Field(0.125, ge=0, le=0.5)  # both phases see random crops (share of the side), mirrored if > 0
    eps: Levels = Field(8 / 255, gt=0, le=1)
    alpha: Levels = Field(1 / 255, gt=0, le=1)  # signed step
    steps: int = Field(2, ge=1)  # T: signed steps per round
    min_rounds: int = Field(20, ge=0)  # no stop before: a small set's error falls long before its noise is ripe
    max_rounds: int = Field(40, ge=0)
    stop_error: float = Field(0.01, ge=0, le=1)  # of the surrogate on x + d, evaluation mode

    @model_validator(mode="after")
    def _ordered(self) -> "Search":
        if self.min_rounds > self.max_rounds:
            raise ValueError(f"min_rounds = {self.min_rounds} is above max_rounds = {self.max_rounds}")
        return self


class Noise:
    """A table of maps (rows,3,S,S), kept in 255ths as float16, read and written as float32 in [0,1] units."""

    def __init__(self, table: np.ndarray) -> None:
        self.table = table

    def __getitem__(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self.table[rows.numpy()]).float() / 255

    def __setitem__(self, rows: Tensor, maps: Tensor) -> None:
        self.table[rows.numpy()] = (255 * maps).cpu().numpy().astype(self.table.dtype)


class Problem(NamedTuple):
    """What a search works on: rows in the order of their names, so that the order of files changes nothing."""

    data: Any
    labels: Tensor  # (N,)
    order: Tensor  # (N,) row numbers, sorted by key
    maps: Tensor  # (N,) the row of the noise table that belongs to an image
    config: Search
    tools: Tools

    def protected(self, rows: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """x, d with x + d in [0,1], and y of these rows, on the device."""
        device = self.tools.device
        x = self.data.batch(rows).to(device)
        return x, pgd.project(x, noise[self.maps[rows]].to(device), self.config.eps), self.labels[rows].to(device)

    def view(self, x: Tensor, *names: object) -> Tensor:
        """x as the surrogate sees it, by the draw called `names`."""
        pad = round(self.config.shift * x.shape[-1])
        if not pad:
            return x
        return augment.view(x, augment.draw_views(len(x), pad, True, self.tools.generator("view", *names)), pad)

    def gradient(self, model: nn.Module, y: Tensor, *names: object) -> pgd.Gradient:
        """u -> the gradient of sum CE(f(u), y); every call draws the next views."""
        calls = iter(range(10**9))
        return pgd.pixel_gradient(
            lambda u: len(y) * fit.loss_of(model, self.view(u, *names, next(calls)), y)
        )


Improve = Callable[[Problem, nn.Module, Noise, Noise, int], None]  # reads one table, fills the other


class Round(NamedTuple):
    """Where a search stands: rounds done, table in use and table of the best, with their surrogate errors."""

    number: int = 0
    now: int = 0
    best: int = 0
    error: float = 1.0
    best_error: float = 1.0


def pose(data: Any, labels: Tensor, maps: Tensor, config: Search, tools: Tools) -> Problem:
    """The search's view of a data set whose image i wears map `maps[i]`."""
    order = sorted(range(len(data)), key=lambda row: str(data.keys[row]))
    return Problem(data, labels, torch.tensor(order), maps, config, tools)


def labels_of(data: Any) -> Tensor:
    """The labels, or UsageError where there is nothing to tell apart."""
    if data.labels is None or len(data.classes) < 2:
        found = "images without class folders" if data.labels is None else f"{len(data.classes)} class"
        raise UsageError(
            f"this protection needs two class folders or more, found {found}",
            hint="put the images of each class into a folder of its own",
        )
    return data.labels  # type: ignore[no-any-return]


def search(problem: Problem, improve: Improve) -> Noise:
    """The noise at the first round from `min_rounds` on whose error is low enough, else the best with a warning."""
    config, tools, size = problem.config, problem.tools, problem.data.size
    shape = (int(problem.maps.max()) + 1, 3, size, size)
    tables = [Noise(tools.array(f"noise-{slot}", shape, "float16")) for slot in range(3)]
    model = backbones.build(config.surrogate, len(problem.data.classes), substream(tools.seed, "surrogate"))
    model = model.to(tools.device)
    optimiser = torch.optim.SGD(model.parameters(), config.lr, momentum=0.9, weight_decay=config.weight_decay)
    at = _resume(model, optimiser, tools)
    tools.progress.start("crafting", config.max_rounds, "rounds")
    tools.progress.advance(at.number)
    while not _done(at, config) and at.number < config.max_rounds:
        number, free = at.number + 1, next(slot for slot in range(3) if slot not in (at.now, at.best))
        _train(problem, model, optimiser, tables[at.now], number)
        _freeze(model, True)
        improve(problem, model, tables[at.now], tables[free], number)
        error = _error(problem, model, tables[free])
        _freeze(model, False)
        best, best_error = (free, error) if error <= at.best_error else (at.best, at.best_error)
        at = Round(number, free, best, error, best_error)
        tools.save("search", lambda at=at: _state(model, optimiser, at))  # type: ignore[misc]
        tools.progress.advance(1, error=error)
    return tables[_conclude(at, config, tools)]


def _done(at: Round, config: Search) -> bool:
    return at.number >= config.min_rounds and at.number > 0 and at.error <= config.stop_error


def _conclude(at: Round, config: Search, tools: Tools) -> int:
    """The table to use; says in the manifest how the search ended."""
    met = _done(at, config)
    tools.note("rounds", at.number)
    tools.note("surrogate_error", at.error if met else at.best_error)
    tools.note("threshold_met", met)
    if not met:
        warning = (
            f"threshold not met: the surrogate's error on the protected images was {at.best_error:.3f} at best in "
            f"{at.number} rounds, {config.stop_error:g} was asked for; raise max_rounds or stop_error"
        )
        tools.note("warnings", [*tools.notes.get("warnings", []), warning])
    return at.now if met else at.best


def _train(problem: Problem, model: nn.Module, optimiser: Any, noise: Noise, number: int) -> None:
    """M steps on x + d, going on through shuffled passes where the round before left off."""
    config, tools, n = problem.config, problem.tools, len(problem.data)
    per_pass = n // min(config.batch, n)
    for step in range((number - 1) * config.surrogate_steps, number * config.surrogate_steps):
        epoch, position = divmod(step, per_pass)
        batch = list(fit.batches(n, config.batch, tools.generator("order", epoch)))[position]
        x, d, y = problem.protected(problem.order[batch], noise)
        fit.train_step(model, optimiser, problem.view(x + d, "train", step), y, config.clip_gradient)


def _error(problem: Problem, model: nn.Module, noise: Noise) -> float:
    """Share of the protected images that the surrogate gets wrong, without augmentation."""
    wrong = 0
    for rows in torch.split(problem.order, DELTA_BATCH):
        x, d, y = problem.protected(rows, noise)
        wrong += int((fit.logits_of(model, x + d).argmax(1) != y).sum())
    return wrong / len(problem.order)


def _freeze(model: nn.Module, frozen: bool) -> None:
    """Evaluation mode without weight gradients: training-mode batch norm would couple the images of a batch."""
    model.train(not frozen)
    model.requires_grad_(not frozen)


def _state(model: nn.Module, optimiser: Any, at: Round) -> dict[str, Any]:
    return {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "at": list(at)}


def _resume(model: nn.Module, optimiser: Any, tools: Tools) -> Round:
    saved = tools.restore("search")
    if saved is None:
        return Round()
    model.load_state_dict(saved["model"])
    optimiser.load_state_dict(saved["optimiser"])
    return Round(*saved["at"])


def estimate(data: Any, config: Search, tools: Tools, gradients_per_round: float) -> float:
    """Seconds of a search to its last round, from one timed forward and backward pass per image."""
    x = data.batch(torch.arange(min(64, len(data)))).to(tools.device)
    model = backbones.build(config.surrogate, max(2, len(data.classes)), 0).to(tools.device)
    y = torch.zeros(len(x), dtype=torch.long, device=tools.device)
    gradient = pgd.pixel_gradient(lambda u: fit.loss_of(model, u, y))
    gradient(x)  # the first call sets the kernels up
    start = time.monotonic()
    gradient(x)
    per_image = (time.monotonic() - start) / len(x)
    trained = 1.5 * config.surrogate_steps * config.batch
    return per_image * config.max_rounds * (trained + gradients_per_round + 0.4 * len(data))
