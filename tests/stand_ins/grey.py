"""A purifier: the mean over channels, and nothing random."""

from ue_audit import config as base

SOURCE = "a stand-in for tests"
NEEDS = ()


class Config(base.Config):
    share: float = 1.0


def passes(config, images):
    return 0.0


def build(data, config, tools):
    return lambda batch: (1 - config.share) * batch.x + config.share * batch.x.mean(1, keepdim=True).expand_as(batch.x)
