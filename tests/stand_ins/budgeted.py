"""A purifier: every image becomes the budget that it was told, 0.5 if none."""

import torch

from ue_audit import config as base

SOURCE = "a stand-in for tests"
NEEDS = ()


class Config(base.Config):
    level: float | None = None


def follows_eps(config):
    return config.level is None


def settle(config, tools):
    tools.note("asked", True)
    level = 0.5 if tools.eps is None else tools.eps
    return config if config.level is not None else config.model_copy(update={"level": level})


def passes(config, images):
    return 0.0


def build(data, config, tools):
    return lambda batch: torch.full_like(batch.x, config.level)
