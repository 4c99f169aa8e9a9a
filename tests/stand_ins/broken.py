"""A purifier that gives NaN."""

import torch

from ue_audit import config as base

SOURCE = "a stand-in for tests"
NEEDS = ()


class Config(base.Config):
    pass


def passes(config, images):
    return 0.0


def build(data, config, tools):
    return lambda batch: torch.full_like(batch.x, float("nan"))
