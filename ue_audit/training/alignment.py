"""The min-min search of contrastive poisoning: rounds of training an encoder, then moving noise so that views match.

    min over theta, min over {d}:  mean L(f_theta; T(x + d), T'(x + d)),   |d| <= eps

L is the loss of SimCLR, MoCo v2 or BYOL, T and T' are two independent views. Noise that makes the views of an image
match gives the encoder nothing to learn about what the image shows. A round trains theta on mini-batches of protected
images in training mode, then takes signed steps of the noise, the network frozen in evaluation mode, EMA and queue
standing still. Only the maps of the batch are read, moved and written.

Which map an image wears (its own, its class's), what noise starts from and how long phases are is the protection's.
Two tables take turns, one read, one written, so that a kill in mid-round loses the round and no more.

On small sets it is weak. Measured with SimCLR, 4 x 500 images and a small net (losses over 7.14, batch 128; chance is
5.54, the least 3.55): against a frozen encoder, 30 steps on one pair of views lower the loss from 4.54 to 4.01 there,
by 0.05 on fresh views; 30 steps on fresh views, by 0.10. Gradients of an image through two draws of views have a
cosine of 0.07. A map per class leaves 4.33 at best with 4 classes (3.90 with 10), so content is still worth learning.
"""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from ue_audit.config import Levels
from ue_audit.errors import NonFiniteError
from ue_audit.tools import Tools, substream
from ue_audit.training import contrastive, fit, pgd
from ue_audit.training.noise import Noise
from ue_audit.training.rows import in_order

ENOUGH_IMAGES = 10_000
EVIDENCE = (
    "on 4 x 500 images of CIFAR-10 a linear probe of SimCLR kept 65 to 72 % where clean images gave 68; the published "
    "effect, 45 instead of 90 %, is for 50,000 images and a thousand signed steps for each"
)
START_BATCH = 1024  # maps drawn at once; part of what a seed means


class Poison(contrastive.Settings):
    """What all contrastive poisons have in common.

    Default `lr_scale`: between SimCLR's for `small` (0.05) and what that makes for MoCo and BYOL (0.2). At three times
    the published rate `small` learns less than it had untrained. What rate crafts the strongest noise is unmeasured.
    """

    algorithm: contrastive.Algorithm = "simclr"
    surrogate: Literal["small", "small-fine", "resnet18"] = "small"
    eps: Levels = Field(8 / 255, gt=0, le=1)
    lr_scale: float = Field(0.1, gt=0)
    dual: bool = True  # MoCo, BYOL: the noise's gradient also runs through the key or target branch


class Phase(NamedTuple):
    """A run of rounds with a freshly initialised network."""

    name: str  # of its state, its tables and its random streams
    rounds: int
    model_steps: int | None  # mini-batches of a round that train theta; None: one pass over the images
    noise_steps: int | None  # mini-batches of a round whose noise moves
    steps: int  # signed steps per mini-batch, each on fresh views
    alpha: float  # of a signed step


class Problem(NamedTuple):
    """What is aligned: rows in the order of their names, so that the order of files changes nothing."""

    data: Any
    order: Tensor  # (N,) row numbers, sorted by key
    maps: Tensor  # (N,) the row of the noise table that belongs to an image
    config: Poison
    tools: Tools

    def views(self, x: Tensor, *names: object) -> tuple[Tensor, Tensor]:
        """Two views of x by the draw called `names`."""
        return contrastive.pair(x, self.config.views, self.tools.generator("views", *names))

    def batches(self, *names: object, first: int, count: int) -> Iterator[Tensor]:
        """Rows of `count` mini-batches, going on through shuffled passes from mini-batch number `first`."""
        batch, passed = min(self.config.batch, len(self.order)), -1
        for step in range(first, first + count):
            epoch, position = divmod(step, len(self.order) // batch)
            if epoch != passed:
                passed, generator = epoch, self.tools.generator("order", *names, epoch)
                drawn = list(fit.batches(len(self.order), batch, generator))
            yield self.order[drawn[position]]


def pose(data: Any, maps: Tensor, config: Poison, tools: Tools) -> Problem:
    """The search's view of a data set whose image i wears map `maps[i]`."""
    return Problem(data, in_order(data), maps, config, tools)


def judge(data: Any, tools: Tools) -> None:
    """A warning for sets so small that the noise was seen not to keep learners from them."""
    if len(data) < ENOUGH_IMAGES:
        warning = f"CP may hardly protect {len(data)} images from learners without labels: {EVIDENCE}"
        tools.warn(warning)


def search(problem: Problem, phase: Phase, start: Callable[[Noise], None]) -> Noise:
    """The noise after all rounds of a phase; `start` fills the table the first round reads."""
    config, tools, size = problem.config, problem.tools, problem.data.size
    shape = (int(problem.maps.max()) + 1, 3, size, size)
    tables = [Noise(tools.array(f"{phase.name}-{slot}", shape, "float16")) for slot in range(2)]
    seed = substream(tools.seed, "surrogate", phase.name)
    model = contrastive.build(config.algorithm, config.surrogate, seed, config, len(problem.data)).to(tools.device)
    optimiser = contrastive.sgd(model, config)
    done, loss = _resume(model, optimiser, phase, tools)
    if not done:
        start(tables[0])
    tools.progress.start(f"crafting {phase.name}", phase.rounds, "rounds")
    tools.progress.advance(done)
    for number in range(done + 1, phase.rounds + 1):
        before, after = tables[(number - 1) % 2], tables[number % 2]
        lr = contrastive.rate(number - 1, phase.rounds, config.algorithm, config)
        optimiser.param_groups[0]["lr"] = lr
        train(problem, phase, model, optimiser, before, number)
        model.freeze(True)
        loss = improve(problem, phase, model, before, after, number)
        model.freeze(False)
        if not math.isfinite(loss):
            raise NonFiniteError(f"crafting {phase.name}: the loss of round {number} is {loss}", hint="lower lr_scale")
        state = {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "number": number, "loss": loss}
        tools.save(phase.name, lambda state=state: state)  # type: ignore[misc]
        tools.progress.advance(1, loss=loss)
    tools.note("alignment_loss", loss)
    return tables[phase.rounds % 2]


def train(
    problem: Problem, phase: Phase, model: contrastive.Contrast, optimiser: Any, noise: Noise, number: int
) -> None:
    """Theta's mini-batches of round `number`, on views of x + d."""
    count = per_round(phase.model_steps, problem)
    for step, rows in enumerate(problem.batches(phase.name, "model", first=(number - 1) * count, count=count)):
        x = problem.data.batch(rows).to(problem.tools.device)
        d = pgd.project(x, noise[problem.maps[rows]].to(x.device), problem.config.eps)
        a, b = problem.views(x + d, phase.name, "model", number, step)
        contrastive.train_step(model, optimiser, a, b)


def improve(
    problem: Problem, phase: Phase, model: contrastive.Contrast, before: Noise, after: Noise, number: int
) -> float:
    """The noise's mini-batches of round `number`: maps move from `before` to `after`. Returns the mean loss there.

    A map worn by several images of a mini-batch follows the sum of their gradients.
    """
    config, count, losses = problem.config, per_round(phase.noise_steps, problem), []
    after.table[:] = before.table
    for batch, rows in enumerate(problem.batches(phase.name, "noise", first=(number - 1) * count, count=count)):
        x = problem.data.batch(rows).to(problem.tools.device)
        worn, wearer = torch.unique(problem.maps[rows], return_inverse=True)
        maps, wearer = after[worn].to(x.device), wearer.to(x.device)
        wears = (torch.arange(len(maps), device=x.device)[:, None] == wearer).float()  # (maps, B)
        for step in range(phase.steps):
            u = (x + pgd.project(x, maps[wearer], config.eps)).requires_grad_(True)
            loss = model.loss(*problem.views(u, phase.name, "noise", number, batch, step), dual=config.dual)
            slope = (wears @ torch.autograd.grad(loss, u)[0].flatten(1)).view_as(maps)
            maps = (maps - phase.alpha * slope.sign()).clamp(-config.eps, config.eps)
        losses.append(loss.detach())
        after[worn] = maps
    return float(torch.stack(losses).mean())


def per_round(steps: int | None, problem: Problem) -> int:
    """Mini-batches of a round: those asked for, or as many as make a pass."""
    return steps or len(problem.order) // min(problem.config.batch, len(problem.order))


def uniform(problem: Problem, noise: Noise) -> None:
    """Fills a table with U(-eps, eps), maps in the order in which their first wearers are named."""
    ranked = list(dict.fromkeys(problem.maps[problem.order].tolist()))
    for part, rows in enumerate(torch.split(torch.tensor(ranked), START_BATCH)):
        shape = (len(rows), *noise.table.shape[1:])
        drawn = torch.rand(shape, generator=problem.tools.generator("start", part))
        noise[rows] = problem.config.eps * (2 * drawn - 1)


def passes(phase: Phase, config: Poison, images: int) -> float:
    """Forward and backward passes of a phase per image: two views each of every image trained on or moved."""
    batch = min(config.batch, images)
    model, noise = (steps or images // batch for steps in (phase.model_steps, phase.noise_steps))
    return 2 * phase.rounds * (model + noise * phase.steps) * batch / images


def estimate(data: Any, config: Poison, tools: Tools, view_passes: float) -> float:
    """Seconds of so many passes per image, from one timed gradient of two views."""
    problem = pose(data, torch.arange(len(data)), config, tools)
    x = data.batch(problem.order[:64]).to(tools.device).requires_grad_(True)
    model = contrastive.build(config.algorithm, config.surrogate, 0, config, len(data)).to(tools.device).freeze(True)
    for _ in range(2):  # the first sets the kernels up
        start = time.monotonic()
        torch.autograd.grad(model.loss(*problem.views(x, "estimate"), dual=config.dual), x)[0].cpu()
    return (time.monotonic() - start) / len(x) * view_passes / 2 * len(data)


def _resume(model: contrastive.Contrast, optimiser: Any, phase: Phase, tools: Tools) -> tuple[int, float]:
    """Rounds done, and the noise's loss in the last of them."""
    saved = fit.resume(tools, phase.name, model, optimiser)
    if saved is None:
        return 0, math.nan
    return saved["number"], saved["loss"]
