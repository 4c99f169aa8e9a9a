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
from typing import Any, Literal, Self

from pydantic import Field, model_validator
from torch import Tensor

from ue_audit import config as base
from ue_audit.diffusion.noise import Stream
from ue_audit.diffusion.prior import load_prior
from ue_audit.diffusion.sampling import (
    ancestral,
    ddim,
    denoiser,
    require_finite,
    reverse,
    timesteps,
    unguided,
)
from ue_audit.tools import Batch, Tools
from ue_audit.training.cost import FORWARD

SOURCE = "AVATAR (Dolatabadi et al.), arXiv 2303.08500; DiffPure (Nie et al.), arXiv 2205.07460"
NEEDS = ("prior",)


class Config(base.Config):
    t_purify: int = Field(60, ge=1, le=1000)  # T_p, where a pass starts; 60: noise of 26.6 levels, 36: 16.7, 20: 10.1
    passes: int = Field(2, ge=1, le=100)  # N; each starts from the result of the one before
    steps: int | None = Field(2, ge=1, le=1000)  # network evaluations per pass; null: every timestep
    sampler: Literal["ancestral", "ddim"] = "ddim"
    eta: float = Field(1.0, ge=0, le=1)  # of ddim: its noise, as a share of the posterior's
    variance: Literal["large", "small"] = "large"  # of ancestral: beta_t, or the posterior's
    precision: Literal["auto", "bf16", "float32"] = "auto"  # of the network; auto: bf16 where hardware has it

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.steps and self.steps > self.t_purify:
            raise ValueError(f"steps = {self.steps} is above t_purify = {self.t_purify}")
        return self


def passes(config: Config, images: int) -> float:
    """The prior's forward passes."""
    return config.passes * (config.steps or config.t_purify) * FORWARD


def build(data: Any, config: Config, tools: Tools) -> Callable[[Batch], Tensor]:
    """purify(batch) -> x_le. Raises ResourceError without a prior, UsageError if it ends below t_purify."""
    weights = tools.require_weights("prior", hint="name one with --prior, or: ue-audit train-prior RAW")
    prior = load_prior(weights).to(tools.device, config.precision)
    prior.check_timestep(config.t_purify)
    times = timesteps(config.t_purify, config.steps)
    sampler = ddim(prior.schedule, config.eta)
    if config.sampler == "ancestral":
        sampler = ancestral(prior.schedule, config.variance)
    denoise = denoiser(prior)
    tools.note("perceptual_guide", {"name": "none", "sha256": None})

    def purify(batch: Batch) -> Tensor:
        x = 2 * batch.x.to(tools.device) - 1
        noise = Stream(tools.seed, batch.keys, x.shape[1:], tools.device)
        for number in range(config.passes):
            x_t = prior.schedule.q_sample(x, config.t_purify, noise(number, 0))
            x = reverse(x_t, times, sampler, denoise, unguided, partial(noise, number))
        require_finite(x, "a purified image")
        return ((x + 1) / 2).clamp(0, 1).to(batch.x.device)

    return purify
