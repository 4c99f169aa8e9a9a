"""A small prior of smooth images, and tools that die."""

import numpy as np
import torch

from ue_audit.diffusion import unet
from ue_audit.diffusion.prior import PriorConfig
from ue_audit.tools import Tools

TINY = PriorConfig(
    network=unet.Config(
        channels=16, multipliers=(1, 2), blocks=1, attention=(), middle_attention=False, unshuffle=2, groups=8,
        norm="none", dropout=0,
    ),
    steps=12,
    batch=8,
    check_every=4,
    warmup=2,
    held_out=0.1,
)


class Waves:
    """Smooth images: plane waves of random direction and colour."""

    size = 16

    def __init__(self, n: int = 64) -> None:
        dice = np.random.default_rng(0)
        y, x = np.mgrid[0:16, 0:16] / 16
        turns = dice.uniform(-2, 2, (n, 2, 1, 1, 1))
        phase = dice.uniform(0, 2 * np.pi, (n, 3, 1, 1))
        waves = 0.5 + 0.4 * np.sin(2 * np.pi * (turns[:, 0] * x + turns[:, 1] * y) + phase)
        self.x = torch.from_numpy(waves.astype(np.float32))
        self.seen: set[int] = set()

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, rows):
        self.seen.update(rows.tolist())
        return self.x[rows]


class Killed(Exception):
    pass


class MortalTools(Tools):
    """Saves at every step and dies at the k-th."""

    def __init__(self, *, after: int, **rest) -> None:
        super().__init__(**rest)
        self.left = after

    def save(self, name, state, every=0.0):
        super().save(name, state)
        self.left -= 1
        if self.left == 0:
            raise Killed


def with_fields(config: PriorConfig, **fields) -> PriorConfig:
    return PriorConfig(**{**config.model_dump(), **fields})
