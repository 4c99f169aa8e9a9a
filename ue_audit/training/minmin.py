"""The min-min search of error-minimising noise: rounds of a surrogate's training and of a better noise.

    min over theta, min over {d}:  mean CE(f_theta(x + d), y),   |d| <= eps

What the noise is (a map per image, per class) and how it improves is the protection's; the rounds, the stop rule,
the best noise so far and the exact resume live here. Noise is held in 255ths of [0,1] as float16 tables in the work
folder: one is read, one is written and one keeps the best, so that a kill in mid-round loses the round and no more.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from ue_audit.config import Config, Levels
from ue_audit.errors import UsageError
from ue_audit.tools import Tools, substream
from ue_audit.training import backbones, fit, pgd


class Search(Config):
    """The surrogate and its rounds. Defaults are for a laptop and some thousand images."""

    surrogate: Literal["small", "resnet18"] = "small"
    surrogate_steps: int = Field(10, ge=1)  # M: optimiser steps per round
    batch: int = Field(64, ge=2)  # images per surrogate step
    lr: float = Field(0.1, gt=0)
    weight_decay: float = Field(5e-4, ge=0)
    clip_gradient: float = Field(5.0, gt=0)  # norm of the surrogate's gradient
    shift: float = Field(0.125, ge=0, le=0.5)  # crafting sees crops moved by up to this share of the side, mirrored
    eps: Levels = Field("8/255", gt=0, le=1)  # type: ignore[assignment]
    alpha: Levels = Field("2/255", gt=0, le=1)  # type: ignore[assignment]
    min_rounds: int = Field(20, ge=0)
    max_rounds: int = Field(30, ge=0)
    stop_error: float = Field(0.01, ge=0, le=1)  # the surrogate's training error that ends the search


class Noise:
    """A table of maps in 255ths, (rows, 3, S, S) float16, read and written as float32 in [0,1] units."""

    def __init__(self, table: np.ndarray) -> None:
        self.table = table

    def __getitem__(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self.table[rows.numpy()]).float() / 255

    def __setitem__(self, rows: Tensor, maps: Tensor) -> None:
        self.table[rows.numpy()] = (255 * maps).cpu().numpy().astype(self.table.dtype)
