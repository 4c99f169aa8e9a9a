"""The variance-preserving forward process of DDPM (arXiv 2006.11239) and the quantities derived from it.

    q(x_t | x_0)          = N( sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I )                       eq. 4
    q(x_{t-1} | x_t, x_0) = N( posterior_mean, posterior_variance I )                             eq. 6, 7

Timesteps count t = 1..T as in the paper: alpha_bar(t) is entry t - 1 of the usual table and alpha_bar(0) = 1.
Tables are float64 on the CPU; what is applied to images is cast to the images' device and dtype last.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from ue_audit.errors import UsageError

Betas = Literal["linear", "scaled-linear", "cosine"]


@dataclass(frozen=True, eq=False)
class Schedule:
    """beta_1..beta_T as a float64 tensor (T,), and everything that follows from it.

    `t` is an int or a LongTensor (B,); coefficients come back as float64 of shape () or (B,).
    """

    beta: Tensor

    @classmethod
    def linear(cls, T: int = 1000, beta_1: float = 1e-4, beta_T: float = 0.02) -> "Schedule":
        """The schedule of DDPM: beta rises linearly from beta_1 to beta_T."""
        return cls(torch.linspace(beta_1, beta_T, T, dtype=torch.float64))

    @classmethod
    def cosine(cls, T: int) -> "Schedule":
        """That of improved DDPM (arXiv 2102.09672, eq. 17): alpha_bar is a squared cosine, beta at most 0.999."""
        t = torch.arange(T + 1, dtype=torch.float64) / T
        alpha_bar = torch.cos((t + 0.008) / 1.008 * torch.pi / 2).square()
        return cls((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=0.999))

    @classmethod
    def of(cls, betas: Betas, T: int, beta_1: float, beta_T: float) -> "Schedule":
        """By name; "scaled-linear": the root of beta rises linearly."""
        if betas == "cosine":
            return cls.cosine(T)
        if betas == "scaled-linear":
            return cls(torch.linspace(beta_1**0.5, beta_T**0.5, T, dtype=torch.float64).square())
        return cls.linear(T, beta_1, beta_T)

    @property
    def T(self) -> int:
        return len(self.beta)

    @cached_property
    def _alpha_bars(self) -> Tensor:
        one = torch.ones(1, dtype=torch.float64)
        return torch.cat([one, torch.cumprod(1 - self.beta, 0)])  # (T+1,), entry t is alpha_bar(t)

    def alpha_bar(self, t: int | Tensor) -> Tensor:
        """The share of signal variance left at t = 0..T."""
        return self._alpha_bars[_index(t, 0, self.T)]

    def beta_at(self, t: int | Tensor) -> Tensor:
        """beta_t for t = 1..T; also the "fixed large" variance of the reverse step."""
        return self.beta[_index(t, 1, self.T) - 1]

    def sigma(self, t: int | Tensor) -> Tensor:
        """Noise per unit of signal, sqrt((1 - alpha_bar) / alpha_bar), in units of the [-1,1] range."""
        alpha_bar = self.alpha_bar(t)
        return ((1 - alpha_bar) / alpha_bar).sqrt()

    def t_for_sigma(self, sigma: float) -> int:
        """The t = 1..T whose `sigma` is nearest."""
        sigmas = self.sigma(torch.arange(1, self.T + 1))
        return int((sigmas - sigma).abs().argmin()) + 1

    def t_within(self, sigma: float) -> int:
        """The largest t = 1..T whose `sigma` is at most this; 1 where none is."""
        sigmas = self.sigma(torch.arange(1, self.T + 1))
        return max(1, int((sigmas <= sigma).sum()))

    def log_snr(self, t: int | Tensor) -> Tensor:
        """log(alpha_bar / (1 - alpha_bar)); infinite at t = 0."""
        return -2 * self.sigma(t).log()

    def q_sample(self, x0: Tensor, t: int | Tensor, noise: Tensor) -> Tensor:
        """x_t from x_0 and standard normal noise (eq. 4)."""
        alpha_bar = self.alpha_bar(t)
        return on(alpha_bar.sqrt(), x0) * x0 + on((1 - alpha_bar).sqrt(), x0) * noise

    def predict_x0(self, x_t: Tensor, pred_noise: Tensor, t: int | Tensor) -> Tensor:
        """The x_0 that x_t and the predicted noise imply, not clamped (eq. 15)."""
        return on(self.alpha_bar(t).rsqrt(), x_t) * x_t - on(self.sigma(t), x_t) * pred_noise

    def posterior_mean(self, x0: Tensor, x_t: Tensor, t: int | Tensor) -> Tensor:
        """The mean of q(x_{t-1} | x_t, x_0) (eq. 7); at t = 1 it is x_0."""
        before, now, beta = self.alpha_bar(t - 1), self.alpha_bar(t), self.beta_at(t)
        of_x0 = before.sqrt() * beta / (1 - now)
        of_x_t = (1 - beta).sqrt() * (1 - before) / (1 - now)
        return on(of_x0, x_t) * x0 + on(of_x_t, x_t) * x_t

    def posterior_variance(self, t: int | Tensor) -> Tensor:
        """The variance of q(x_{t-1} | x_t, x_0) (eq. 7); at t = 1 it is 0."""
        return self.beta_at(t) * (1 - self.alpha_bar(t - 1)) / (1 - self.alpha_bar(t))


def on(coefficient: Tensor, x: Tensor) -> Tensor:
    """A coefficient of shape () or (B,) made ready to multiply images x (B,C,H,W)."""
    return coefficient.to(x.dtype).to(x.device).reshape(-1, *[1] * (x.dim() - 1))


def _index(t: int | Tensor, low: int, high: int) -> Tensor:
    index = torch.as_tensor(t).cpu()
    if index.numel() and not low <= int(index.min()) <= int(index.max()) <= high:
        raise UsageError(
            f"expected timesteps in {low}..{high}, found {int(index.min())}..{int(index.max())}",
            hint="choose a smaller t_purify, or a prior with more timesteps",
        )
    return index
