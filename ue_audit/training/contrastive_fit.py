"""Training without labels, then a probe: the loop behind the learners `simclr`, `moco` and `byol`.

The encoder sees the images of `data` (clean, protected or purified; it cannot tell) and no label. Its features are then
frozen and a classifier is fitted on labelled images; which ones, and what that makes of the answer, is told in
`training/probe.py`. Equal seeds train equal encoders whatever the probe.

Against noise that makes two views alike, a learner may add to every view what such noise does not survive: a hole,
noise of its own, or the worst case that `harden` finds.

A probe is fitted, and an `Epoch` yielded, after every `probe_every` passes and after the last. Differs from the
authors' code: it reports the best epoch of the probe on the test images; the last pass counts here. Resume is exact:
the state holds weights, target, queue, momentum and the position in the pass.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from ue_audit.config import Levels
from ue_audit.errors import NonFiniteError
from ue_audit.tools import Epoch, Tools, substream
from ue_audit.training import backbones, contrastive, probe, views
from ue_audit.training import fit as loop

SAVE_SECONDS = 60.0


class Config(contrastive.Recipe, probe.Recipe):
    """A contrastive training and the probe of what it learnt. Defaults are for a laptop and some thousand images."""

    backbone: backbones.Backbone = "thin"
    epochs: int = Field(40, ge=1)
    probe_every: int = Field(10, ge=1)  # passes
    view_noise: Levels = Field(0.0, ge=0, le=1)  # standard deviation of Gaussian noise on every view
    view_cutout: float = Field(0.0, ge=0, le=1)  # side of a square hole in every view, share of the image's


Harden = Callable[[contrastive.Contrast, Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]
"""Two views of a batch -> two that are harder to match, drawn with a generator of the step."""


def counters(victim: str, config: Config) -> str | None:
    """The victim that what is added to the views hardens; None where nothing is."""
    return victim if config.view_noise or config.view_cutout else None


def fit(
    algorithm: contrastive.Algorithm, data: Any, config: Config, tools: Tools, harden: Harden | None = None
) -> Iterator[Epoch]:
    """One `Epoch` after each probe. Raises UsageError without labels to probe with, NonFiniteError on divergence."""
    images = probe.labelled(data, config, tools)
    seed = substream(tools.seed, "weights")
    model = contrastive.build(algorithm, config.backbone, seed, config, len(data)).to(tools.device)
    optimiser = contrastive.sgd(model, config)
    per_epoch = len(data) // min(config.batch, len(data))
    steps = per_epoch * config.epochs
    first, step, total = _resume(model, optimiser, tools)

    def keep(epoch: int) -> None:
        state = {"epoch": epoch, "step": step, "total": total}
        networks = {"model": model.state_dict(), "optimiser": optimiser.state_dict()}
        tools.save("contrastive", lambda: state | networks, SAVE_SECONDS)

    for epoch in range(first, config.epochs):
        order = list(loop.batches(len(data), config.batch, tools.generator("order", epoch)))
        for rows in order[step - epoch * per_epoch :]:
            optimiser.param_groups[0]["lr"] = contrastive.rate(step, steps, algorithm, config, config.warmup)
            a, b = _pair(data.batch(rows).to(tools.device), config, tools, step)
            if harden is not None:
                a, b = harden(model, a, b, tools.generator("harden", step))
            total += contrastive.train_step(model, optimiser, a, b)
            step += 1
            keep(epoch)
        if not math.isfinite(total):
            raise NonFiniteError(f"the {algorithm} loss became {total} in epoch {epoch + 1}", hint="lower lr_scale")
        if (epoch + 1) % config.probe_every == 0 or step == steps:
            yield Epoch(epoch + 1, total / per_epoch, probe.fit(model.features, images, config, tools))
        total = 0.0
        if step < steps:  # so that a finished training that was not recorded ends once more
            keep(epoch + 1)


def _pair(x: Tensor, config: Config, tools: Tools, step: int) -> tuple[Tensor, Tensor]:
    """Two views of every image, with what the configuration adds to each."""
    a, b = contrastive.pair(x, config.views, tools.generator("views", step))
    if config.view_noise:
        generator = tools.generator("view noise", step)
        a, b = (views.noisy(seen, config.view_noise, generator) for seen in (a, b))
    if config.view_cutout:
        generator = tools.generator("view cutout", step)
        a, b = (views.cut_out(seen, config.view_cutout, generator) for seen in (a, b))
    return a, b


def _resume(model: contrastive.Contrast, optimiser: torch.optim.Optimizer, tools: Tools) -> tuple[int, int, float]:
    """Epoch whose probe is not yet consumed, step and summed loss to go on from."""
    saved = loop.resume(tools, "contrastive", model, optimiser)
    if saved is None:
        return 0, 0, 0.0
    return saved["epoch"], saved["step"], saved["total"]
