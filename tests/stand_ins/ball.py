"""A protection with an L2 budget: the same ramp for every image, scaled to the budget before rounding."""

import torch

from ue_audit import config as base

SOURCE = "a stand-in for tests"
NEEDS = ()
BUDGET = "l2"


class Config(base.Config):
    l2: float = 1.0


def generate(data, config, tools):
    ramp = torch.linspace(-1, 1, 3 * data.size**2).reshape(3, data.size, data.size)
    delta = config.l2 * data.size / 32 * ramp / ramp.norm()
    return lambda rows: delta.expand(len(rows), -1, -1, -1)


def passes(config, images):
    return 0.0
