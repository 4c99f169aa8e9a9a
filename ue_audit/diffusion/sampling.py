"""The reverse chain of purification: any sampler, any guidance, any source of noise.

    x0hat = denoise(x_t, t);    x_s = mean(x_t, x0hat) + sigma z;    t = t_purify, .., s after t, .., 0

A sampler takes one step t -> s, in the symbols of its paper. Guidance shifts the mean of x_s. Ancestral
sampling asks it at x_t, as Algorithm 1 of JCDP has it; DDIM and DPM-Solver++, whose steps are long, ask it at that
mean, which is the same where steps are short, and leaves no noise of x_t in the result of the last one. Guidance that
acts on x0hat is part of `denoise` instead.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from ue_audit.diffusion.prior import Prior
from ue_audit.diffusion.schedule import Schedule
from ue_audit.errors import NonFiniteError

Denoise = Callable[[Tensor, int], Tensor]
"""x_t, t -> x0hat."""

Guidance = Callable[[Tensor, float, Tensor, int], Tensor | float]
"""x, signal, x0hat, t -> shift of the mean of x_s. x is x_t or that mean, and holds `signal` times an image."""

Noise = Callable[[int], Tensor]
"""t -> standard normal noise for the step that leaves t; t = 0 is for the diffusion before the chain."""

Past = tuple[int, Tensor] | None
"""t and x0hat of the step before, for those who look back."""


class Sampler(Protocol):
    """One step t -> s: the mean and standard deviation of x_s."""

    def __call__(
        self, x_t: Tensor, x0hat: Tensor, t: int, s: int, guidance: Guidance, past: Past = None
    ) -> tuple[Tensor, float]: ...


def unguided(x: Tensor, signal: float, x0hat: Tensor, t: int) -> float:
    """The guidance of plain diffusion purification."""
    return 0.0


def timesteps(t_purify: int, steps: int | None = None) -> list[int]:
    """`steps` evenly spaced timesteps, t_purify first and t_purify / steps last; without `steps` all."""
    steps = steps or t_purify
    return [round(t_purify * (steps - k) / steps) for k in range(steps)]


def spread(schedule: Schedule, t_purify: int, steps: int | None, spacing: str) -> list[int]:
    """`timesteps` for spacing "time"; for "log-snr" evenly spaced in log-SNR, t_purify first and 1 last."""
    if spacing == "time" or steps in (None, 1):
        return timesteps(t_purify, steps)
    log_snr = schedule.log_snr(torch.arange(1, t_purify + 1))
    wanted = torch.linspace(float(log_snr[-1]), float(log_snr[0]), steps, dtype=torch.float64)
    times = [t_purify]
    for k in range(1, steps):  # the nearest, as far as all that follow keep a timestep of their own
        nearest = int((log_snr - wanted[k]).abs().argmin()) + 1
        times.append(min(max(nearest, steps - k), times[-1] - 1))
    return times


def ancestral(schedule: Schedule, variance: str = "large") -> Sampler:
    """DDPM (arXiv 2006.11239), eq. 7 for any t -> s; variance "large": beta, "small": the posterior's."""

    def step(x_t: Tensor, x0hat: Tensor, t: int, s: int, guidance: Guidance, past: Past = None) -> tuple[Tensor, float]:
        a_t, a_s = _alpha_bars(schedule, t, s)
        beta = 1 - a_t / a_s
        of_x0 = a_s**0.5 * beta / (1 - a_t)
        of_x_t = (a_t / a_s) ** 0.5 * (1 - a_s) / (1 - a_t)
        mean = of_x0 * x0hat + of_x_t * x_t
        sigma = (beta if variance == "large" else beta * (1 - a_s) / (1 - a_t)) ** 0.5
        return mean + guidance(x_t, a_t**0.5, x0hat, t), sigma

    return step


def ddim(schedule: Schedule, eta: float = 0.0) -> Sampler:
    """DDIM (arXiv 2010.02502), eq. 12 and 16; unguided, eta = 1 is ancestral with the small variance."""

    def step(x_t: Tensor, x0hat: Tensor, t: int, s: int, guidance: Guidance, past: Past = None) -> tuple[Tensor, float]:
        a_t, a_s = _alpha_bars(schedule, t, s)
        pred_noise = (x_t - a_t**0.5 * x0hat) / (1 - a_t) ** 0.5
        variance = eta**2 * (1 - a_s) / (1 - a_t) * (1 - a_t / a_s)
        mean = a_s**0.5 * x0hat + max(1 - a_s - variance, 0.0) ** 0.5 * pred_noise
        return mean + guidance(mean, a_s**0.5, x0hat, t), variance**0.5

    return step


def dpm(schedule: Schedule) -> Sampler:
    """DPM-Solver++(2M) (arXiv 2211.01095), Algorithm 2, without noise; the last step returns x0hat.

    lambda, half the log-SNR, goes up by h in a step; x0hat is extrapolated to its middle from the step before.
    """

    def step(x_t: Tensor, x0hat: Tensor, t: int, s: int, guidance: Guidance, past: Past = None) -> tuple[Tensor, float]:
        a_t, a_s = _alpha_bars(schedule, t, s)
        mean, h = x0hat, math.inf
        if s:
            h = float(schedule.log_snr(s) - schedule.log_snr(t)) / 2
            middle = x0hat
            if past is not None:
                r = float(schedule.log_snr(t) - schedule.log_snr(past[0])) / 2 / h
                middle = x0hat + (x0hat - past[1]) / (2 * r)
            mean = ((1 - a_s) / (1 - a_t)) ** 0.5 * x_t - a_s**0.5 * math.expm1(-h) * middle
        return mean + guidance(mean, a_s**0.5, x0hat, t), 0.0

    return step


def reverse(
    x: Tensor, times: Sequence[int], sampler: Sampler, denoise: Denoise, guidance: Guidance, noise: Noise
) -> Tensor:
    """x_t at t = times[0] -> x_0; the last step adds no noise."""
    past: Past = None
    for t, s in pairwise([*times, 0]):
        x0hat = denoise(x, t)
        x, sigma = sampler(x, x0hat, t, s, guidance, past)
        past = (t, x0hat)
        if s and sigma:
            x = x + sigma * noise(t)
    return x


def denoiser(prior: Prior) -> Denoise:
    """The x0hat of a prior, clamped to [-1,1]. It raises NonFiniteError."""

    def denoise(x_t: Tensor, t: int) -> Tensor:
        with torch.no_grad():
            pred_noise = prior.predict_noise(x_t, torch.full((len(x_t),), t, device=x_t.device)).float()
            require_finite(pred_noise, f"the prior's prediction at t = {t}")
            return prior.schedule.predict_x0(x_t, pred_noise, t).clamp(-1, 1)

    return denoise


def require_finite(x: Tensor, what: str) -> None:
    """Raises NonFiniteError if there is a NaN or infinity in x."""
    if not bool(x.isfinite().all()):
        raise NonFiniteError(
            f"expected finite numbers, found NaN or infinity in {what}",
            hint="try --set precision=float32; if it stays, the prior is broken: train it again",
        )


def _alpha_bars(schedule: Schedule, t: int, s: int) -> tuple[float, float]:
    return float(schedule.alpha_bar(t)), float(schedule.alpha_bar(s))
