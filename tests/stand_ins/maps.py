"""A protection: one random map of +-eps per class."""

import torch

from ue_audit import config as base

SOURCE = "a stand-in for tests"
NEEDS = ()
BUDGET = "linf"


class Config(base.Config):
    eps: base.Levels = "8/255"  # type: ignore[assignment]
    scale: float = 1.0  # above 1 the method asks for more than its budget


def generate(data, config, tools):
    maps = torch.randint(0, 2, (len(data.classes), 3, data.size, data.size), generator=tools.generator("maps")) * 2 - 1
    tools.note("warnings", ["a stand-in"])
    return lambda rows: config.scale * config.eps * maps[data.labels[rows]].float()


def passes(config, images):
    return 0.0
