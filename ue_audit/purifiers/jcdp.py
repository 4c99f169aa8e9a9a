"""JCDP, joint-conditional diffusion purification: denoise with a prior, guided to stay near x_ue.

Algorithm 1; N, T_p, lambda_1, lambda_2 are `passes`, `t_purify`, `pixel_pull`, `perceptual_scale`:
    x := x_ue                                                           the protected image (x~0 in the paper)
    repeat N times
        x_t := diffuse x to t = T_p                                     line 4
        for t = T_p .. 1:
            d_1 := -lambda_1(t) grad D_m, d_2 := -lambda_2(t) grad D_p  lines 8 and 9, both at every step
            x_{t-1} ~ N( mu(x_t) + sigma_t² (d_1 + d_2), sigma_t² I )   line 10
        x := x_0

What the paper leaves open, as read here, and what its released code does instead (preset `jcdp-reference`):
    D_m     half the squared distance to the noise-free sqrt(alpha_bar) x_ue, summed per image: sigma_t² d_1
            is -kappa_t (x_t - sqrt(alpha_bar) x_ue). Released: a mean over batch and pixels, to a target
            with fresh noise (`target=fresh`); at its batch of 500 a pass closes 0.1 % of the gap, at another,
            another share. `profile=released` has its strengths for a declared batch, whatever the actual one.
    D_p     ||h(x0hat) - h(x_ue)||² per image, not differentiated through the U-Net; h is LPIPS-AlexNet or
            features of the prior. Released: LPIPS of the noisy x_t (`perceptual_at=x_t`), a mean over the batch.
            `perceptual_step=unit` takes steps whose length does not depend on h, `raw` those of the paper.
    joint   Released: never both, D_m at t > 11 of 20 and D_p from there on (`guidance=split`).
    T_p     Released: the image is diffused to T_p + 1, of which the network is not told (`noise_above`).
    passes  start from the result of the one before, as released; line 4 as printed discards it.
    ddim    takes the gradient of D_m at the mean of x_s instead of x_t, because its steps are long; `dpm`, too.
    x0hat   `acts_on=x0hat` moves the clean estimate instead, in closed form: x0hat := (x0hat + k_t x_ue) / (1 + k_t),
            then the perceptual step. k_t is `pixel_pull` at T_p and falls with the noise's variance, as what the
            prior does not know does. No gradient of D_m, no steps to sum over, and of second order with `dpm`.

Pixel guidance puts the perturbation back in proportion: watch the residual correlation. What the released code does
to its results, truncating them to whole levels, is not reproduced: they are rounded.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from ue_audit.diffusion import denoising
from ue_audit.diffusion.denoising import follows_eps, passes
from ue_audit.diffusion.guidance import Strengths, perceptual_gradient, released, shares, step_variance, unit
from ue_audit.diffusion.noise import Stream
from ue_audit.diffusion.sampling import Denoise, Guidance, require_finite, reverse, unguided
from ue_audit.diffusion.schedule import Schedule
from ue_audit.tools import Batch, Tools
from ue_audit.training import perceptual
from ue_audit.training.perceptual import Perceptual

__all__ = ["NEEDS", "SOURCE", "Config", "build", "follows_eps", "passes", "settle"]

SOURCE = "JCDP (Jiang et al.), arXiv 2305.09241, Algorithm 1"
IN_WORDS = "has an image generator, trained on other pictures, repaint the images, held close to what was published"
NEEDS = ("prior",)
NO_GUIDE = {"name": "none", "sha256": None}
PIXEL, PERCEPTUAL = 1, 2  # uses of the noise of fresh targets

Fresh = Callable[[int, int], Tensor]
"""t, use -> standard normal noise."""


class Config(denoising.Config):
    guidance: Literal["joint", "split", "pixel", "perceptual", "none"] = "joint"
    split_t: int | None = Field(None, ge=0, le=1000)  # split: D_m above, D_p from here on; null: 11/20 of t_purify
    pixel_pull: float = Field(0.02, ge=0, le=100)  # kappa_t, the share of the gap to x_ue closed at t, summed; or k
    perceptual_scale: float = Field(0.02, ge=0, le=1000)  # step in sigma_t sqrt(3SS); raw: sum of factors
    perceptual_step: Literal["unit", "raw"] = "unit"  # gradients of length 1, or as they are
    perceptual_at: Literal["x0hat", "x_t"] = "x0hat"  # where D_p is taken; x_t: x and its target, both noisy
    target: Literal["mean", "fresh"] = "mean"  # noise-free, or with noise drawn for every step and term
    acts_on: Literal["mean", "x0hat"] = "mean"  # what is moved: the mean of x_s, or x0hat in closed form
    profile: Literal["reference", "constant", "released"] = "reference"  # kappa_t ~ beta_t sqrt(1/alpha_bar - 1), even
    released_scale: float = Field(70_000, gt=0)  # profile=released: `pixel_pull` and `perceptual_scale` times these
    released_batch: int = Field(500, ge=1)  # strengths of the released code, whose distances are means over a batch
    released_levels: float = Field(8, gt=0)  # its "ptb"
    noise_above: int = Field(0, ge=0, le=1)  # timesteps of noise that the network is not told of
    guide: Literal["auto", "lpips-alex", "lpips-vgg", "prior-features"] = "auto"  # h; auto: lpips-alex if it is found
    weights: str | None = Field(None, exclude=True)  # a file for LPIPS; the manifest has its digest instead

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        noisy = self.target == "fresh" or self.perceptual_at == "x_t" or self.profile == "released"
        if self.acts_on == "x0hat" and noisy:
            raise ValueError("acts_on = x0hat has no target = fresh, perceptual_at = x_t or profile = released")
        return self


def settle(config: Config, tools: Tools) -> Config:
    """The configuration with t_purify and split_t known. Raises ResourceError, UsageError."""
    config = denoising.settle(config, tools)
    if config.guidance == "split" and config.split_t is None and config.t_purify:
        config = config.model_copy(update={"split_t": 11 * config.t_purify // 20})
    return config


def build(data: Any, config: Config, tools: Tools) -> Callable[[Batch], Tensor]:
    """purify(batch) -> x_le. Raises ResourceError without a prior, UsageError if it ends below t_purify."""
    config = settle(config, tools)
    prior, times, sampler, denoise = denoising.begin(config, tools)
    guided = config.guidance not in ("pixel", "none") and config.perceptual_scale > 0
    guide = perceptual.choose(config.guide, prior, data.size, tools) if guided else None
    tools.note("perceptual_guide", {"name": guide.name, "sha256": guide.sha256} if guide else NO_GUIDE)

    def purify(batch: Batch) -> Tensor:
        x = x_ue = 2 * batch.x.to(tools.device) - 1
        noise = Stream(tools.seed, batch.keys, x.shape[1:], tools.device)
        joint = Joint(x_ue, prior.schedule, times, config, guide)
        for number in range(config.passes):
            fresh = partial(noise, number)
            x_t = prior.schedule.q_sample(x, times[0] + config.noise_above, noise(number, 0))
            x = reverse(x_t, times, sampler, *joint.applied(denoise, fresh), fresh)
        require_finite(x, "a purified image")
        return ((x + 1) / 2).clamp(0, 1).to(batch.x.device)

    return purify


class Joint:
    """The guidance of a batch x_ue in [-1,1]; every image has its own gradients.

    `kappa` and `factor`: t -> strength of the pixel and of the perceptual term, where they act.
    """

    def __init__(
        self, x_ue: Tensor, schedule: Schedule, times: Sequence[int], config: Config, guide: Perceptual | None
    ) -> None:
        self.x_ue, self.config, self.guide = x_ue, config, guide
        self.h_ue = guide.embed(x_ue) if guide else None
        self.kappa, self.factor = strengths(schedule, times, config, x_ue[0].numel())

    def applied(self, denoise: Denoise, fresh: Fresh) -> tuple[Denoise, Guidance]:
        """What `reverse` takes: guidance is a part of either."""
        if self.config.acts_on == "x0hat":
            return partial(self.estimate, denoise), unguided
        return denoise, partial(self.shift, fresh)

    def shift(self, fresh: Fresh, x: Tensor, signal: float, x0hat: Tensor, t: int) -> Tensor:
        """sigma_t² (d_1 + d_2) of line 10."""
        total = -self.kappa.get(t, 0.0) * pixel_gradient(x, self.target(fresh, signal, t, PIXEL))
        if self.guide is None or t not in self.factor:
            return total
        if self.config.perceptual_at == "x0hat":
            return total - self.perceptual_move(x0hat, self.h_ue, t)
        return total - self.perceptual_move(x, self.guide.embed(self.target(fresh, signal, t, PERCEPTUAL)), t)

    def estimate(self, denoise: Denoise, x_t: Tensor, t: int) -> Tensor:
        """x0hat := (x0hat + k_t x_ue) / (1 + k_t), then nearer in D_p."""
        x0hat = torch.lerp(denoise(x_t, t), self.x_ue, self.kappa.get(t, 0.0))
        return x0hat - self.perceptual_move(x0hat, self.h_ue, t) if t in self.factor else x0hat

    def target(self, fresh: Fresh, signal: float, t: int, use: int) -> Tensor:
        """What x is drawn to where it holds `signal` times an image."""
        mean = signal * self.x_ue
        noisy = self.config.target == "fresh" and signal < 1
        return mean + (1 - signal**2) ** 0.5 * fresh(t, use) if noisy else mean

    def perceptual_move(self, x: Tensor, h_target: Tensor | None, t: int) -> Tensor | float:
        """lambda_2 grad D_p, where there is a guide."""
        if self.guide is None or h_target is None:
            return 0.0
        gradient = perceptual_gradient(x, h_target, self.guide)
        if self.config.perceptual_step == "unit":
            gradient = unit(gradient)
        return self.config.perceptual_scale * (self.factor[t] * gradient)


def strengths(schedule: Schedule, times: Sequence[int], config: Config, values: int) -> tuple[Strengths, Strengths]:
    """kappa_t where the pixel term acts, and what grad D_p is multiplied with where that one does."""
    pixel, looked = acting(times, config)
    variance = step_variance(schedule, times)
    sigma = {t: value**0.5 for t, value in variance.items()}
    if config.acts_on == "x0hat":
        sigma = {t: float(schedule.sigma(t)) for t in times}
        factor = {t: (sigma[t] / sigma[times[0]]) ** 2 if config.profile == "reference" else 1.0 for t in times}
        kappa = {t: 1 - 1 / (1 + config.pixel_pull * factor[t]) for t in pixel}  # k / (1 + k)
    elif config.profile == "released":
        factor = released(schedule, variance, config.released_scale, config.released_levels, config.released_batch)
        kappa = {t: config.pixel_pull * 2 * factor[t] / values for t in pixel}  # grad of a mean of `values` squares
    else:
        kappa, factor = (shares(schedule, variance, where, config.profile) for where in (pixel, looked))
        kappa = {t: config.pixel_pull * share for t, share in kappa.items()}
    if config.perceptual_step == "unit":
        factor = {t: sigma[t] * values**0.5 for t in looked}
    return {t: min(pull, 1.0) for t, pull in kappa.items()}, {t: factor[t] for t in looked}


def acting(times: Sequence[int], config: Config) -> tuple[list[int], list[int]]:
    """At which of `times` the pixel term acts, and at which the perceptual one."""
    guidance, switch = config.guidance, config.split_t or 0
    pixel = [t for t in times if guidance in ("joint", "pixel") or (guidance == "split" and t > switch)]
    looked = [t for t in times if guidance in ("joint", "perceptual") or (guidance == "split" and t <= switch)]
    return pixel, looked


def pixel_gradient(x: Tensor, target: Tensor) -> Tensor:
    """The gradient of D_m = ||x - target||² / 2 (eq. 17 and 18)."""
    return x - target
