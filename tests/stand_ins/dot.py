"""A protection of one white pixel, at the middle of an image's own size; in the corner if an encoder is given."""

import torch

from ue_audit import config as base

SOURCE = "a stand-in for tests"
BUDGET = "l0"
NEEDS = ("encoder",)


class Config(base.Config):
    pixels: int = 1


class Dot:
    def __init__(self, data, place):
        self._data, self._place = data, place

    def __call__(self, rows):
        return torch.stack([self.native(row, x) for row, x in enumerate(self._data.batch(rows))])

    def native(self, row, x):
        change = torch.zeros_like(x)
        at = int(self._place * x.shape[1]), int(self._place * x.shape[2])
        change[:, at[0], at[1]] = 1 - x[:, at[0], at[1]]
        return change


def generate(data, config, tools):
    return Dot(data, 0 if tools.weights("encoder") else 0.5)


def passes(config, images):
    return 0.0
