"""Training without labels, then a linear probe: the loop behind the learners `simclr`, `moco` and `byol`.

The encoder sees the images of `data` (clean, protected or purified; it cannot tell) and no label. Its features are then
frozen and a linear classifier is fitted on clean labelled images, `data.clean`: an exploiter who has scraped many
protected images and owns a few clean ones with labels, as in the contrastive-poisoning literature.

A probe is fitted, and an `Epoch` yielded, after every `probe_every` passes and after the last. Differs from the
authors' code: it reports the best epoch of the probe on the test images; the last pass counts here. Resume is exact:
the state holds weights, target, queue, momentum and the position in the pass.
"""

import math
from collections.abc import Iterator
from typing import Any, Literal

import torch
from pydantic import Field

from ue_audit.errors import NonFiniteError
from ue_audit.tools import Epoch, Tools, substream
from ue_audit.training import contrastive, probe
from ue_audit.training import fit as loop

SAVE_SECONDS = 60.0


class Config(contrastive.Recipe, probe.Recipe):
    """A contrastive training and the probe of what it learnt."""

    backbone: Literal["small", "resnet18"] = "small"
    probe_every: int = Field(10, ge=1)  # passes


def fit(algorithm: contrastive.Algorithm, data: Any, config: Config, tools: Tools) -> Iterator[Epoch]:
    """One `Epoch` after each probe. Raises UsageError without labels to probe with, NonFiniteError on divergence."""
    images = probe.labelled(data, tools)
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
            x = data.batch(rows).to(tools.device)
            views = contrastive.pair(x, config.views, tools.generator("views", step))
            total += contrastive.train_step(model, optimiser, *views)
            step += 1
            keep(epoch)
        if not math.isfinite(total):
            raise NonFiniteError(f"the {algorithm} loss became {total} in epoch {epoch + 1}", hint="lower lr_scale")
        if (epoch + 1) % config.probe_every == 0 or step == steps:
            yield Epoch(epoch + 1, total / per_epoch, probe.fit(model.features, images, config, tools))
        total = 0.0
        if step < steps:  # so that a finished training that was not recorded ends once more
            keep(epoch + 1)


def _resume(model: contrastive.Contrast, optimiser: torch.optim.Optimizer, tools: Tools) -> tuple[int, int, float]:
    """Epoch whose probe is not yet consumed, step and summed loss to go on from."""
    saved = loop.resume(tools, "contrastive", model, optimiser)
    if saved is None:
        return 0, 0, 0.0
    return saved["epoch"], saved["step"], saved["total"]
