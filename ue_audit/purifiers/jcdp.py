"""JCDP, joint-conditional diffusion purification: denoise with a prior, guided to stay near x_ue.

Algorithm 1; N, T_p, lambda_1, lambda_2 are `passes`, `t_purify`, `pixel_pull`, `perceptual_scale`:
    x := x_ue                                                           the protected image (x~0 in the paper)
    repeat N times
        x_t := diffuse x to t = T_p                                     line 4
        for t = T_p .. 1:
            d_1 := -lambda_1(t) grad D_m, d_2 := -lambda_2(t) grad D_p  lines 8 and 9, both at every step
            x_{t-1} ~ N( mu(x_t) + sigma_t² (d_1 + d_2), sigma_t² I )   line 10
        x := x_0

What the paper leaves open, as read here, and what its released code does instead:
    D_m     half the squared distance to the noise-free sqrt(alpha_bar) x_ue, summed per image: sigma_t² d_1
            is -kappa_t (x_t - sqrt(alpha_bar) x_ue). Released: a mean over batch and pixels, to a target
            with fresh noise; at its batch of 500 a pass closes 0.1 % of the gap, at another, another share.
    D_p     ||h(x0hat) - h(x_ue)||² per image, not differentiated through the U-Net; h is LPIPS-AlexNet or
            features of the prior. Released: LPIPS of the noisy x_t, a mean over the batch.
            `perceptual_step=unit` takes steps whose length does not depend on h, `raw` those of the paper.
    joint   Released: never both, D_m at t > 11 and D_p below.
    passes  start from the result of the one before, as released; line 4 as printed discards it.
    ddim    takes the gradient of D_m at the mean of x_s instead of x_t, because its steps are long.

Pixel guidance puts the perturbation back in proportion: watch the residual correlation.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ue_audit import config as base
from ue_audit.diffusion.noise import Stream
from ue_audit.diffusion.prior import load_prior
from ue_audit.diffusion.sampling import (
    Guidance,
    ancestral,
    ddim,
    denoiser,
    require_finite,
    reverse,
    timesteps,
)
from ue_audit.diffusion.schedule import Schedule
from ue_audit.tools import Batch, Tools
from ue_audit.training import perceptual
from ue_audit.training.cost import FORWARD
from ue_audit.training.perceptual import Perceptual

SOURCE = "JCDP (Jiang et al.), arXiv 2305.09241, Algorithm 1"
NEEDS = ("prior",)
NO_GUIDE = {"name": "none", "sha256": None}


class Config(base.Config):
    t_purify: int = Field(60, ge=1, le=1000)  # T_p, where a pass starts; 60: noise of 26.6 levels, 36: 16.7, 20: 10.1
    passes: int = Field(2, ge=1, le=100)  # N; each starts from the result of the one before
    steps: int | None = Field(2, ge=1, le=1000)  # network evaluations per pass; null: every timestep
    sampler: Literal["ancestral", "ddim"] = "ddim"
    eta: float = Field(1.0, ge=0, le=1)  # of ddim: its noise, as a share of the posterior's
    variance: Literal["large", "small"] = "large"  # of ancestral: beta_t, or the posterior's
    precision: Literal["auto", "bf16", "float32"] = "auto"  # of the network; auto: bf16 where hardware has it
    guidance: Literal["joint", "pixel", "perceptual", "none"] = "joint"
    pixel_pull: float = Field(0.02, ge=0, le=100)  # kappa_t, the share of the gap to x_ue closed at t, summed
    perceptual_scale: float = Field(0.02, ge=0, le=1000)  # step in sigma_t sqrt(3SS); raw: sum of factors
    perceptual_step: Literal["unit", "raw"] = "unit"  # gradients of length 1, or as they are
    profile: Literal["reference", "constant"] = "reference"  # kappa_t ~ beta_t sqrt(1/alpha_bar - 1), or even
    guide: Literal["auto", "lpips-alex", "prior-features"] = "auto"  # h; auto: LPIPS where weights are found
    weights: str | None = Field(None, exclude=True)  # a file for LPIPS; the manifest has its digest instead

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
    guided = config.guidance in ("joint", "perceptual") and config.perceptual_scale > 0
    guide = perceptual.choose(config.guide, prior, data.size, tools) if guided else None
    tools.note("perceptual_guide", {"name": guide.name, "sha256": guide.sha256} if guide else NO_GUIDE)

    def purify(batch: Batch) -> Tensor:
        x = x_ue = 2 * batch.x.to(tools.device) - 1
        noise = Stream(tools.seed, batch.keys, x.shape[1:], tools.device)
        guidance = joint_guidance(x_ue, prior.schedule, times, config, guide)
        for number in range(config.passes):
            x_t = prior.schedule.q_sample(x, config.t_purify, noise(number, 0))
            x = reverse(x_t, times, sampler, denoise, guidance, partial(noise, number))
        require_finite(x, "a purified image")
        return ((x + 1) / 2).clamp(0, 1).to(batch.x.device)

    return purify


def joint_guidance(
    x_ue: Tensor, schedule: Schedule, times: Sequence[int], config: Config, guide: Perceptual | None
) -> Guidance:
    """sigma_t² (d_1 + d_2) of line 10 for a batch in [-1,1]; every image has its own gradients."""
    a = schedule.alpha_bar
    sigma = {t: float(1 - a(t) / a(s)) ** 0.5 for t, s in pairwise([*times, 0])}
    share = shares(schedule, sigma, config.profile)
    pull = config.pixel_pull if config.guidance in ("joint", "pixel") else 0.0
    h_ue = guide.embed(x_ue) if guide else None

    def shift(x: Tensor, signal: float, x0hat: Tensor, t: int) -> Tensor:
        kappa = min(pull * share[t], 1.0)
        total = -kappa * pixel_gradient(x, x_ue, signal)
        if guide is not None and h_ue is not None:
            gradient = perceptual_gradient(x0hat, h_ue, guide)
            if config.perceptual_step == "unit":
                gradient = sigma[t] * x[0].numel() ** 0.5 * unit(gradient)
            else:
                gradient = share[t] * gradient
            total = total - config.perceptual_scale * gradient
        return total

    return shift


def pixel_gradient(x: Tensor, x_ue: Tensor, signal: float) -> Tensor:
    """The gradient of D_m = ||x - signal x_ue||² / 2 (eq. 17 and 18)."""
    return x - signal * x_ue


def perceptual_gradient(x0hat: Tensor, h_ue: Tensor, guide: Perceptual) -> Tensor:
    """The gradient of D_p = ||h(x0hat) - h(x_ue)||² (eq. 19 and 20)."""
    with torch.enable_grad():
        x0hat = x0hat.detach().requires_grad_()
        distances = (guide.embed(x0hat) - h_ue).square().sum(1)  # (B,)
        gradient: Tensor = torch.autograd.grad(distances.sum(), x0hat)[0]
    return gradient


def unit(gradient: Tensor) -> Tensor:
    """Every image's gradient at length 1; 0 stays 0."""
    length: Tensor = torch.linalg.vector_norm(gradient, dim=(1, 2, 3), keepdim=True)
    return gradient / length.clamp_min(torch.finfo(gradient.dtype).tiny)


def shares(schedule: Schedule, sigma: dict[int, float], profile: str) -> dict[int, float]:
    """What share of a pass's pull each timestep gets."""
    weight = {t: sigma[t] ** 2 * float(schedule.sigma(t)) if profile == "reference" else 1.0 for t in sigma}
    return {t: value / sum(weight.values()) for t, value in weight.items()}
