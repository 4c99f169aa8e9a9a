"""What guidance is made of: gradients, and how strong they are at a timestep (JCDP, arXiv 2305.09241, eq. 16 to 20).

A strength is sigma_t² lambda(t), what the gradient of D_m or of D_p is multiplied with. `variance` is sigma_t² of
every step of a chain.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from ue_audit.diffusion.schedule import Schedule
from ue_audit.training.perceptual import Perceptual

Strengths = dict[int, float]
"""t -> strength."""


def step_variance(schedule: Schedule, times: Sequence[int]) -> Strengths:
    """beta of the steps from each of `times` to the next and of the last to 0."""
    return {t: float(1 - schedule.alpha_bar(t) / schedule.alpha_bar(s)) for t, s in pairwise([*times, 0])}


def shares(schedule: Schedule, variance: Mapping[int, float], times: Iterable[int], profile: str) -> Strengths:
    """What share of a pass each of `times` gets: in proportion to the released strengths ("reference"), or even."""
    weight = {t: variance[t] * float(schedule.sigma(t)) if profile == "reference" else 1.0 for t in times}
    return {t: value / sum(weight.values()) for t, value in weight.items()}


def released(schedule: Schedule, variance: Mapping[int, float], scale: float, levels: float, batch: int) -> Strengths:
    """What the released code multiplies the gradient of LPIPS with, at its batch size.

    sigma_t² sqrt(1 / alpha_bar_t - 1) / (m B), m = (2 levels / 255) / 3 / scale; its distance is a mean over B images.
    """
    m = 2 * levels / 255 / 3 / scale
    if 1 in variance:  # DDPM's "fixed large" variance of the last step is the posterior's of the one before
        variance = {**variance, 1: float(schedule.posterior_variance(2))}
    return {t: value * float(schedule.sigma(t)) / m / batch for t, value in variance.items()}


def perceptual_gradient(x: Tensor, h_target: Tensor, guide: Perceptual) -> Tensor:
    """The gradient of D_p = ||h(x) - h_target||² (eq. 19 and 20)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        distances = (guide.embed(x) - h_target).square().sum(1)  # (B,)
        gradient: Tensor = torch.autograd.grad(distances.sum(), x)[0]
    return gradient


def unit(gradient: Tensor) -> Tensor:
    """Every image's gradient at length 1; 0 stays 0."""
    length: Tensor = torch.linalg.vector_norm(gradient, dim=(1, 2, 3), keepdim=True)
    return gradient / length.clamp_min(torch.finfo(gradient.dtype).tiny)
