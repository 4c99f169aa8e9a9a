"""Signed gradient steps inside an L-inf ball and the pixel range: foolbox's five statements."""

from collections.abc import Callable

import torch
from torch import Tensor

Gradient = Callable[[Tensor], Tensor]


def project(x: Tensor, delta: Tensor, eps: float) -> Tensor:
    """The nearest change with |delta| <= eps and x + delta in [0,1]; keeps both signs."""
    return delta.clamp((-x).clamp(min=-eps), (1 - x).clamp(max=eps))


def descend(x: Tensor, delta: Tensor, gradient: Gradient, *, eps: float, alpha: float, steps: int) -> Tensor:
    """delta after `steps` moves of size `alpha` against the sign of `gradient(x + delta)`; ascend with alpha < 0."""
    for _ in range(steps):
        delta = project(x, delta - alpha * gradient(x + delta).sign(), eps)
    return delta


def pixel_gradient(loss: Callable[[Tensor], Tensor]) -> Gradient:
    """u -> d loss / d u."""

    def gradient(u: Tensor) -> Tensor:
        u = u.detach().requires_grad_(True)
        with torch.enable_grad():
            return torch.autograd.grad(loss(u), u)[0]

    return gradient
