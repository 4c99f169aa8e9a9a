"""Supervised training from scratch: what an attacker does who takes the images as they come.

Cross-entropy, SGD, random crop and flip; no label smoothing, no weight average and no test-time flips, since each
of them could change how readily shortcuts are learnt. The learner does not know whether its data is clean,
protected or purified.

Resume is exact: the state holds weights, momentum and the position in the epoch, and every batch and view is drawn
from a generator named by its epoch and step. An epoch's state is kept only once its `Epoch` was consumed.
"""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from pydantic import Field

from ue_audit.errors import UsageError
from ue_audit.tools import Epoch, Tools, substream
from ue_audit.training import backbones
from ue_audit.training import fit as loop

SOURCE = "He et al., arXiv 1512.03385 (ResNet); the CIFAR stem and recipe of the unlearnable-examples literature"
NEEDS = ("labels",)
SAVE_SECONDS = 60.0


class Config(loop.Recipe):
    """Defaults are for a laptop and some thousand images; `resnet18-paper` is the literature's victim.

    4 x 500 images of CIFAR-10: 79.2 % (n = 1), 20 s on one core of a 2-core x86 CPU with AVX512-BF16.
    """

    backbone: Literal["small", "resnet18"] = "small"
    epochs: int = Field(15, ge=1)
    batch: int = Field(64, ge=2)
    lr: float = Field(0.1, gt=0)


def fit(data: Any, config: Config, tools: Tools) -> Iterator[Epoch]:
    """One `Epoch` after each pass over `data`. Raises UsageError without labels or with one class."""
    labels = _labels(data)
    model = backbones.build(config.backbone, len(data.classes), substream(tools.seed, "weights")).to(tools.device)
    optimiser = loop.sgd(model, config)
    per_epoch = len(data) // min(config.batch, len(data))
    step, total = _resume(model, optimiser, tools)

    def state() -> dict[str, Any]:
        return {"model": model.state_dict(), "optimiser": optimiser.state_dict(), "step": step, "total": total}

    for epoch in range(step // per_epoch, config.epochs):
        order = list(loop.batches(len(data), config.batch, tools.generator("order", epoch)))
        for rows in order[step - epoch * per_epoch :]:
            optimiser.param_groups[0]["lr"] = loop.rate(step, per_epoch * config.epochs, config)
            x = loop.seen(data.batch(rows).to(tools.device), config, tools.generator("views", step))
            total += loop.train_step(model, optimiser, x, labels[rows].to(tools.device))
            step += 1
            if step % per_epoch:
                tools.save("supervised", state, SAVE_SECONDS)
        yield Epoch(epoch + 1, total / per_epoch, lambda x: loop.logits_of(model, x.to(tools.device)))
        total = 0.0
        if step < per_epoch * config.epochs:  # so that a finished training that was not recorded ends once more
            tools.save("supervised", state, SAVE_SECONDS)


def _resume(model: torch.nn.Module, optimiser: torch.optim.Optimizer, tools: Tools) -> tuple[int, float]:
    """Step and summed loss to go on from."""
    saved = loop.resume(tools, "supervised", model, optimiser)
    if saved is None:
        return 0, 0.0
    return saved["step"], saved["total"]


def _labels(data: Any) -> torch.Tensor:
    if data.labels is None:
        raise UsageError("supervised training needs one folder per class, found images without classes")
    if len(data.classes) < 2:
        raise UsageError(f"supervised training needs two classes or more, found {len(data.classes)}")
    return data.labels  # type: ignore[no-any-return]
