"""What a prior is trained on and judged by: which images, timesteps and noise, step by step."""

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from ue_audit.diffusion.prior import Prior, PriorConfig, denoising_psnr
from ue_audit.errors import UsageError
from ue_audit.tools import Tools

HELD_OUT_IMAGES = 256


class Images(Protocol):
    """What training needs of a data set."""

    @property
    def size(self) -> int: ...
    def __len__(self) -> int: ...
    def batch(self, rows: Any) -> Tensor: ...


def draw(
    data: Images, rows: Tensor, config: PriorConfig, tools: Tools, step: int
) -> tuple[Tensor, Tensor, Tensor]:
    """x_0 (B,3,S,S) in [-1,1], t (B,) and noise (B,3,S,S) of one step."""
    dice = tools.generator("prior", "step", step)
    x0 = 2 * data.batch(rows[torch.randint(len(rows), (config.batch,), generator=dice)]) - 1
    if config.flip:
        mirrored = torch.rand(len(x0), generator=dice) < 0.5
        x0 = torch.where(mirrored[:, None, None, None], x0.flip(-1), x0)
    t = torch.randint(1, config.t_max + 1, (config.batch,), generator=dice)
    if config.antithetic:
        half = t[: (config.batch + 1) // 2]
        t = torch.cat([half, config.t_max + 1 - half])[: config.batch]
    return x0, t, torch.randn(x0.shape, generator=dice)


def split(n: int, config: PriorConfig, tools: Tools) -> tuple[Tensor, Tensor]:
    """Rows to train on and rows held out."""
    if n < 2:
        raise UsageError(f"expected at least 2 raw images to train a prior, found {n}")
    order = torch.randperm(n, generator=tools.generator("prior", "held out"))
    held = min(max(1, round(config.held_out * n)), HELD_OUT_IMAGES, n - 1)
    return order[held:].sort().values, order[:held].sort().values


def held_out_psnr(prior: Prior, data: Images, rows: Tensor, tools: Tools) -> dict[str, float]:
    """{"0.05": dB, ...}: the same images and the same noise at every measurement."""
    psnr = dict.fromkeys(prior.judged_at(), math.nan)
    for sigma, t in () if tools.peers.own else prior.judged_at().items():
        dice = tools.generator("prior", "held-out noise", sigma)
        images = (data.batch(part) for part in torch.split(rows, prior.config.batch))
        batches = ((x, torch.randn(x.shape, generator=dice)) for x in images)
        psnr[sigma] = denoising_psnr(prior, batches, t)
    return dict(zip(psnr, tools.peers.agree(list(psnr.values())), strict=True))
