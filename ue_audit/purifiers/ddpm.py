"""Diffusion purification without guidance: noise the images a little, denoise them with the prior, N times.

    x := x_ue
    repeat N times                                          `passes`
        x_t := diffuse x to t = T_p                         `t_purify`
        for t = T_p .. 1:  x_{t-1} ~ p(x_{t-1} | x_t)       `steps` of them, `sampler`
        x := x_0

One pass from t = 100 over every timestep is the idea of AVATAR and DiffPure (preset `avatar`). It is also
JCDP without its guidance: `jcdp` with both strengths at 0 gives the same bytes, and what JCDP adds is the
difference between the two files.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor

from ue_audit.diffusion import denoising
from ue_audit.diffusion.denoising import follows_eps, passes, settle
from ue_audit.diffusion.noise import Stream
from ue_audit.diffusion.sampling import require_finite, reverse, unguided
from ue_audit.tools import Batch, Tools

__all__ = ["NEEDS", "SOURCE", "Config", "build", "follows_eps", "passes", "settle"]

SOURCE = "AVATAR (Dolatabadi et al.), arXiv 2303.08500; DiffPure (Nie et al.), arXiv 2205.07460"
IN_WORDS = "has an image generator, trained on other pictures, repaint the images a little"
NEEDS = ("prior",)


class Config(denoising.Config):
    """The settings of the passes and no others."""


def build(data: Any, config: Config, tools: Tools) -> Callable[[Batch], Tensor]:
    """purify(batch) -> x_le. Raises ResourceError without a prior, UsageError if it ends below t_purify."""
    config = settle(config, tools)
    prior, times, sampler, denoise = denoising.begin(config, tools)
    tools.note("perceptual_guide", {"name": "none", "sha256": None})

    def purify(batch: Batch) -> Tensor:
        x = 2 * batch.x.to(tools.device) - 1
        noise = Stream(tools.seed, batch.keys, x.shape[1:], tools.device)
        for number in range(config.passes):
            x_t = prior.schedule.q_sample(x, times[0], noise(number, 0))
            x = reverse(x_t, times, sampler, denoise, unguided, partial(noise, number))
        require_finite(x, "a purified image")
        return ((x + 1) / 2).clamp(0, 1).to(batch.x.device)

    return purify
