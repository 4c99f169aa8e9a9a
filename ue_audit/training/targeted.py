"""Signed descent on images against frozen networks: the search that TAP, AAP, SEP and HYPO share.

    d <- clip(d - alpha sign( sum_k grad_d loss_k(t_k(x + d), target) )),   |d| <= eps,  x + d in [0,1]

Every step sees each image through a fresh view t of its own, one per network. Of several starts each image keeps the
one whose loss over a few further views is lowest. Images are crafted in chunks, in the order of their names; a chunk
that was killed goes on to the same bytes from its last saved step.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from ue_audit.config import Config, Levels
from ue_audit.errors import NonFiniteError
from ue_audit.tools import Tools
from ue_audit.training import cost, fit, pgd, surrogate
from ue_audit.training.noise import Noise
from ue_audit.training.rows import in_order

CHUNK_PIXELS = 2**19  # crafted together: 512 images of 32 px, 10 of 224
JUDGING_VIEWS = 4  # by which the starts of an image are compared
SAVE_SECONDS = 60.0

Objective = Callable[[Tensor, Tensor], Tensor]  # views (B,3,S,S) and targets (B,) -> what to lower, (B,)
Permutation = Literal["next", "opposite", "random"]


class Attack(Config):
    """Budget and steps."""

    eps: Levels = Field(8 / 255, gt=0, le=1)
    alpha: Levels = Field(0.8 / 255, gt=0, le=1)  # signed step
    steps: int = Field(100, ge=1)
    start: Literal["normal", "uniform", "zero"] = "zero"  # normal: N(0, eps) clipped to the budget
    restarts: int = Field(1, ge=1)  # starts, of which every image keeps its best


class Settings(surrogate.Training, Attack):
    """A surrogate and the attack on it."""


class Aim(NamedTuple):
    """What is crafted: a target for every row, and what to lower, one function per frozen network."""

    data: Any
    targets: Tensor  # (N,)
    objectives: Sequence[Objective]
    view: surrogate.View
    config: Attack
    tools: Tools

    def gradient(self, y: Tensor, *names: object) -> pgd.Gradient:
        """u -> the summed gradient of the objectives, each seeing its own view called `names`."""

        def one(number: int, objective: Objective) -> pgd.Gradient:
            generator = self.tools.generator("view", *names, number)
            return pgd.pixel_gradient(lambda u: objective(self.view(u, generator), y).sum())

        parts = [one(number, objective) for number, objective in enumerate(self.objectives)]
        return lambda u: sum((part(u) for part in parts), torch.zeros_like(u))

    def loss(self, u: Tensor, y: Tensor, *names: object) -> Tensor:
        """The mean objective of each image over `JUDGING_VIEWS` views and all networks, (B,)."""
        total = torch.zeros(len(u), device=u.device)
        with torch.no_grad():
            for number in range(JUDGING_VIEWS):
                seen = self.view(u, self.tools.generator("judging", *names, number))
                total += sum(objective(seen, y) for objective in self.objectives)
        return total / (JUDGING_VIEWS * len(self.objectives))


class Chunk(NamedTuple):
    """Where a chunk stands: steps done over all starts, the noise in work, the best so far and its loss."""

    done: int
    d: Tensor  # (B,3,S,S)
    best: Tensor
    lowest: Tensor  # (B,)


def craft(aim: Aim) -> Noise:
    """The noise of every row, |d| <= eps and x + d in [0,1] (within half precision)."""
    data, config, tools = aim.data, aim.config, aim.tools
    noise = Noise(tools.array("noise", (len(data), 3, data.size, data.size), "float16"))
    chunks = torch.split(in_order(data), max(1, CHUNK_PIXELS // data.size**2))
    saved = tools.restore("crafting") or {"number": 0}
    per_image = config.steps * config.restarts
    tools.progress.start("crafting", per_image * len(data), "gradients")
    tools.progress.advance(sum(len(rows) for rows in chunks[: saved["number"]]) * per_image)
    for number in range(saved["number"], len(chunks)):
        noise[chunks[number]] = _search(aim, number, chunks[number], saved.get("chunk"))
        saved = {"number": number + 1}
        tools.save("crafting", lambda at=saved: at)  # type: ignore[misc]
    return noise


def _search(aim: Aim, number: int, rows: Tensor, saved: list[Any] | None) -> Tensor:
    """The best noise of chunk `number` over all starts, (B,3,S,S), going on from a saved state."""
    config, tools = aim.config, aim.tools
    x, y = aim.data.batch(rows).to(tools.device), aim.targets[rows].to(tools.device)
    nothing = torch.zeros_like(x)
    at = Chunk(0, nothing, nothing, torch.full((len(x),), torch.inf, device=x.device))
    if saved is not None:
        at = Chunk(saved[0], *(part.to(x.device) for part in saved[1:]))
    tools.progress.advance(at.done * len(rows))
    while at.done < config.restarts * config.steps:
        restart, step = divmod(at.done, config.steps)
        d = at.d if step else _start(x, config, tools.generator("start", number, restart))
        gradient = aim.gradient(y, number, at.done)
        d = pgd.descend(x, d, gradient, eps=config.eps, alpha=config.alpha, steps=1)
        at = at._replace(done=at.done + 1, d=d)
        if step + 1 == config.steps:
            at = _keep(at, aim.loss(x + d, y, number, restart))
            tools.progress.advance(0, loss=float(at.lowest.mean()))
        tools.save("crafting", lambda at=at: {"number": number, "chunk": _plain(at)}, SAVE_SECONDS)  # type: ignore[misc]
        tools.progress.advance(len(rows))
    return at.best


def _plain(at: Chunk) -> list[Any]:
    return [at.done, *(part.cpu() for part in at[1:])]


def _keep(at: Chunk, loss: Tensor) -> Chunk:
    """The better of the noise in work and the best so far, image by image. Raises NonFiniteError."""
    if not bool(torch.isfinite(loss).all()):
        raise NonFiniteError("expected a finite loss of the frozen surrogate on its images, found NaN or infinity")
    better = loss < at.lowest
    best = torch.where(better[:, None, None, None], at.d, at.best)
    return at._replace(best=best, lowest=torch.where(better, loss, at.lowest))


def _start(x: Tensor, config: Attack, generator: torch.Generator) -> Tensor:
    if config.start == "zero":
        return torch.zeros_like(x)
    if config.start == "uniform":
        drawn = config.eps * (2 * torch.rand(x.shape, generator=generator) - 1)
    else:
        drawn = config.eps * torch.randn(x.shape, generator=generator)
    return pgd.project(x, drawn.to(x.device), config.eps)


def permutation(classes: Sequence[str], how: Permutation, tools: Tools) -> Tensor:
    """pi, (K,): a bijection of the classes, in the order of their names, that maps none onto itself."""
    n = len(classes)
    order = torch.tensor(sorted(range(n), key=lambda number: str(classes[number])))
    places = (torch.arange(n) + (1 if how == "next" else n // 2)) % n
    generator = tools.generator("permutation")
    while how == "random":
        places = torch.randperm(n, generator=generator)
        if not (places == torch.arange(n)).any():
            break
    return torch.empty(n, dtype=torch.long).scatter_(0, order, order[places])


def delta(aim: Aim, noise: Noise) -> Callable[[Tensor], Tensor]:
    """rows -> noise in the budget and the pixel range."""
    return lambda rows: pgd.project(aim.data.batch(rows), noise[rows], aim.config.eps)


def hits(aim: Aim, noise: Noise, network: nn.Module) -> float:
    """Share of the protected images that a network puts into their target class."""
    hit, change = 0, delta(aim, noise)
    for rows in torch.split(in_order(aim.data), surrogate.MEASURE_BATCH):
        x_ue = (aim.data.batch(rows) + change(rows)).to(aim.tools.device)
        hit += int((fit.logits_of(network, x_ue).argmax(1).cpu() == aim.targets[rows]).sum())
    return hit / len(aim.data)


def passes(config: Settings, images: int, networks: int = 1) -> float:
    """Forward and backward passes per image: the surrogate, its attack through so many networks, a last look."""
    judged = JUDGING_VIEWS * cost.FORWARD
    return surrogate.passes(config, images) + config.restarts * networks * (config.steps + judged) + cost.FORWARD


def estimate(data: Any, config: Settings, tools: Tools, view: surrogate.View, spent: float) -> float:
    """Seconds of `spent` passes per image."""
    return cost.seconds_per_pass(data, config.surrogate, view, tools) * spent * len(data)
