"""A learner: the nearest class mean, moved a little by the seed; it saves its epoch as real ones do."""

import torch

from ue_audit import config as base
from ue_audit.tools import Epoch

SOURCE = "a stand-in for tests"
NEEDS = ()


class Config(base.Config):
    epochs: int = 2


def passes(config, images):
    return 0.0


def fit(data, config, tools):
    x = data.batch(torch.arange(len(data))).flatten(1)
    means = torch.stack([x[data.labels == k].mean(0) for k in range(len(data.classes))])
    means = means + 0.01 * torch.randn(means.shape, generator=tools.generator("jitter"))
    first = (tools.restore("fit") or {}).get("epoch", 0)
    for epoch in range(first + 1, config.epochs + 1):
        yield Epoch(epoch, 1 / epoch, lambda batch: -torch.cdist(batch.flatten(1), means))
        tools.save("fit", lambda epoch=epoch: {"epoch": epoch})
