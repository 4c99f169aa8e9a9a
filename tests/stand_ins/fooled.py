"""A learner that is right on as many images as it is told, by how much its own are changed.

Seeds scatter around that by `scatter`.
"""

import torch

from ue_audit import config as base
from ue_audit.tools import Epoch

SOURCE = "a stand-in for tests"
NEEDS = ()
LITTLE, LEAST = 12 / 255, 7.5 / 255


class Config(base.Config):
    epochs: int = 1
    clean: float = 0.9
    protected: float = 0.3
    purified: float = 0.7
    restored: float | None = None  # changed least of all; else as `protected`
    scatter: float = 0.03


def passes(config, images):
    return 1.0


def fit(data, config, tools):
    rows = torch.arange(len(data))
    x, changed = data.clean.batch(rows).flatten(1), (data.batch(rows) - data.clean.batch(rows)).abs().mean()
    means = torch.stack([x[data.labels == k].mean(0) for k in range(len(data.classes))])
    right = config.clean if changed == 0 else config.protected if changed < LITTLE else config.purified
    if config.restored is not None and 0 < changed < LEAST:
        right = config.restored
    right += config.scatter * torch.randn((), generator=tools.generator("scatter")).item()
    luck = torch.rand((), generator=tools.generator("luck")).item()

    def predict(batch):
        found = -torch.cdist(batch.flatten(1), means)
        wrong = (batch.flatten(1).sum(1) * 97 + luck) % 1 >= right
        return torch.where(wrong[:, None], found.roll(1, 1), found)

    yield Epoch(1, 1.0, predict)
