"""The min-min search of error-minimising noise: rounds of training a surrogate, then bettering the noise.

    min over theta, min over {d}:  mean CE(f_theta(x + d), y),   |d| <= eps

What the noise is (a map per image, per class) and how it improves is the protection's; the rounds, the stop rule,
the best noise so far and the exact resume live here. Noise is held in 255ths of [0,1] as float16 tables in the work
folder: one is read, one is written and one keeps the best, so that a kill in mid-round loses the round and no more.
"""

import itertools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ue_audit.config import Config, Levels
from ue_audit.tools import Tools, substream
from ue_audit.training import augment, backbones, cost, fit, pgd
from ue_audit.training.noise import Noise
from ue_audit.training.rows import in_order

DELTA_BATCH = 256  # images per gradient of the noise; has no effect on it but speed, the network being frozen
USUAL_ROUNDS = 10  # of the authors' logs


class Rounds(Config):
    """The surrogate, the steps of the noise, and what a round is."""

    surrogate: Literal["small-fine", "small", "resnet18"] = "small-fine"
    batch: int = Field(64, ge=2)  # images per surrogate step
    lr: float = Field(0.1, gt=0)
    weight_decay: float = Field(5e-4, ge=0)
    clip_gradient: float = Field(5.0, gt=0)  # largest norm of the surrogate's gradient
    eps: Levels = Field(8 / 255, gt=0, le=1)
    alpha: Levels = Field(1 / 255, gt=0, le=1)  # signed step
    steps: int = Field(2, ge=1)  # T: signed steps per round
    max_rounds: int = Field(40, ge=0)

    def trained(self, images: int) -> int:
        """Optimiser steps of a round: a pass over the set."""
        return images // min(self.batch, images)

    def rate(self, number: int) -> float:
        """Learning rate of round `number`, from 1."""
        return self.lr

    def view(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """x as the surrogate sees it, in both phases."""
        return x

    def ends(self, number: int, error: float) -> bool:
        """Whether the noise of round `number`, at which the surrogate errs so often, is the one to use."""
        return number >= self.max_rounds

    def expected_rounds(self) -> int:
        return self.max_rounds


class Search(Rounds):
    """EMN's rounds: few surrogate steps each, until the surrogate errs no more on the protected images."""

    surrogate_steps: int = Field(10, ge=1)  # M: optimiser steps per round, at a constant rate as in the authors' code
    shift: float = Field(0.125, ge=0, le=0.5)  # both phases see random crops (share of the side), mirrored if > 0
    min_rounds: int = Field(20, ge=0)  # no stop before: a small set's error falls long before its noise is ripe
    stop_error: float = Field(0.01, ge=0, le=1)  # of the surrogate on x + d, evaluation mode

    def trained(self, images: int) -> int:
        return self.surrogate_steps

    def view(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return crop_and_flip(x, self.shift, generator)

    def ends(self, number: int, error: float) -> bool:
        return number >= self.min_rounds and number > 0 and error <= self.stop_error

    def expected_rounds(self) -> int:
        return min(self.max_rounds, max(self.min_rounds, USUAL_ROUNDS))

    @model_validator(mode="after")
    def _ordered(self) -> "Search":
        if self.min_rounds > self.max_rounds:
            raise ValueError(f"min_rounds = {self.min_rounds} is above max_rounds = {self.max_rounds}")
        return self


class Problem(NamedTuple):
    """What a search works on: rows in the order of their names, so that the order of files changes nothing."""

    data: Any
    labels: Tensor  # (N,)
    order: Tensor  # (N,) row numbers, sorted by key
    maps: Tensor  # (N,) the row of the noise table that belongs to an image
    config: Rounds
    tools: Tools

    def protected(self, rows: Tensor, noise: Noise) -> tuple[Tensor, Tensor, Tensor]:
        """x, d with x + d in [0,1], and y of these rows, on the device."""
        device = self.tools.device
        x = self.data.batch(rows).to(device)
        return x, pgd.project(x, noise[self.maps[rows]].to(device), self.config.eps), self.labels[rows].to(device)

    def view(self, x: Tensor, *names: object) -> Tensor:
        """x as the surrogate sees it, by the draw called `names`."""
        return self.config.view(x, self.tools.generator("view", *names))

    def gradient(self, model: nn.Module, y: Tensor, *names: object) -> pgd.Gradient:
        """u -> the gradient of sum CE(f(u), y); every call draws the next views."""
        calls = iter(range(10**9))
        return pgd.pixel_gradient(lambda u: len(y) * fit.loss_of(model, self.view(u, *names, next(calls)), y))


Improve = Callable[[Problem, nn.Module, Noise, Noise, int], None]  # reads one table, fills the other


class Round(NamedTuple):
    """Where a search stands: rounds done, table in use and table of the best, with their surrogate errors."""

    number: int = 0
    now: int = 0
    best: int = 0
    error: float = 1.0
    best_error: float = 1.0


def pose(data: Any, labels: Tensor, maps: Tensor, config: Rounds, tools: Tools) -> Problem:
    """The search's view of a data set whose image i wears map `maps[i]`."""
    return Problem(data, labels, in_order(data), maps, config, tools)


def drawn(n: int, batch: int, step: int, tools: Tools) -> Tensor:
    """Places of the batch of `step`, of shuffled passes over n that go on until the steps end."""
    epoch, position = divmod(step, n // min(batch, n))
    return next(itertools.islice(fit.batches(n, batch, tools.generator("order", epoch)), position, None))


def crop_and_flip(x: Tensor, shift: float, generator: torch.Generator) -> Tensor:
    """Each image cropped from padding by `shift` of its side, and mirrored; x itself where that is no pixel."""
    pad = round(shift * x.shape[-1])
    return augment.view(x, augment.draw_views(len(x), pad, True, generator), pad) if pad else x


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
    while not config.ends(at.number, at.error) and at.number < config.max_rounds:
        number, free = at.number + 1, next(slot for slot in range(3) if slot not in (at.now, at.best))
        _train(problem, model, optimiser, tables[at.now], number)
        fit.freeze(model, True)
        improve(problem, model, tables[at.now], tables[free], number)
        error = _error(problem, model, tables[free])
        fit.freeze(model, False)
        best, best_error = (free, error) if error <= at.best_error else (at.best, at.best_error)
        at = Round(number, free, best, error, best_error)
        tools.save("search", lambda at=at: _state(model, optimiser, at))  # type: ignore[misc]
        tools.progress.advance(1, error=error)
    return tables[_conclude(at, config, tools)]


def _conclude(at: Round, config: Rounds, tools: Tools) -> int:
    """The table to use; says in the manifest how the search ended."""
    met = config.ends(at.number, at.error)
    tools.note("rounds", at.number)
    tools.note("surrogate_error", at.error if met else at.best_error)
    if isinstance(config, Search):
        tools.note("threshold_met", met)
    if isinstance(config, Search) and not met:
        warning = (
            f"threshold not met: the surrogate's error on the protected images was {at.best_error:.3f} at best in "
            f"{at.number} rounds, {config.stop_error:g} was asked for; raise max_rounds or stop_error"
        )
        tools.warn(warning)
    return at.now if met else at.best


def _train(problem: Problem, model: nn.Module, optimiser: Any, noise: Noise, number: int) -> None:
    """The steps of round `number` on x + d, going on through shuffled passes where the round before left off."""
    config, n = problem.config, len(problem.data)
    optimiser.param_groups[0]["lr"] = config.rate(number)
    each = config.trained(n)
    for step in range((number - 1) * each, number * each):
        rows = problem.order[drawn(n, config.batch, step, problem.tools)]
        x, d, y = problem.protected(rows, noise)
        fit.train_step(model, optimiser, problem.view(x + d, "train", step), y, config.clip_gradient)


def _error(problem: Problem, model: nn.Module, noise: Noise) -> float:
    """Share of the protected images that the surrogate gets wrong, without augmentation."""
    wrong = 0
    for rows in torch.split(problem.order, DELTA_BATCH):
        x, d, y = problem.protected(rows, noise)
        wrong += int((fit.logits_of(model, x + d).argmax(1) != y).sum())
    return wrong / len(problem.order)


def _state(model: nn.Module, optimiser: Any, at: Round) -> dict[str, Any]:
    return {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "at": list(at)}


def _resume(model: nn.Module, optimiser: Any, tools: Tools) -> Round:
    saved = fit.resume(tools, "search", model, optimiser)
    if saved is None:
        return Round()
    return Round(*saved["at"])


def passes(config: Rounds, images: int, gradients_per_round: float) -> float:
    """Forward and backward passes per image: of the surrogate, of the noise, and its error, in as many rounds as usual.

    `gradients_per_round` are those of the noise, per image.
    """
    trained = config.trained(images) * min(config.batch, images) / images
    return config.expected_rounds() * (trained + gradients_per_round + cost.FORWARD)


def estimate(data: Any, config: Rounds, tools: Tools, spent: float) -> float:
    """Seconds of `spent` passes per image."""
    return cost.seconds_per_pass(data, config.surrogate, config.view, tools) * spent * len(data)
