"""Muon (Jordan et al., 2024): momentum whose singular values are all set to about one before the step.

    m <- momentum m + g;   u = g + momentum m;   w <- w - lr sqrt(max(1, rows / columns)) orthogonal(u)

A convolution is the matrix (out, in * kh * kw). For hidden layers only: the first and the last layer, biases and
embeddings are left to Adam. On short runs it reaches Adam's loss in about half the steps; torch's own
`torch.optim.Muon` takes matrices only.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

QUINTIC = (3.4445, -4.7750, 2.0315)  # of the authors: steepest at 0, so that small singular values rise fast
NEWTON_SCHULZ_STEPS = 5


class Muon(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum for weights of two or more dimensions."""

    def __init__(self, weights: Iterable[Tensor], lr: float = 0.02, momentum: float = 0.95) -> None:
        super().__init__(weights, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, self.state[weight], group["lr"], group["momentum"])

    def _move(self, weight: Tensor, state: dict[str, Any], lr: float, momentum: float) -> None:
        average = state.setdefault("momentum", torch.zeros_like(weight))
        average.mul_(momentum).add_(weight.grad)
        update = weight.grad.add(average, alpha=momentum).flatten(1)  # type: ignore[union-attr]
        rows, columns = update.shape
        scale = max(1.0, rows / columns) ** 0.5
        weight.add_(orthogonal(update).reshape(weight.shape), alpha=-lr * scale)


def orthogonal(matrix: Tensor) -> Tensor:
    """`matrix` with its singular values brought near one (0.7 to 1.2), by Newton-Schulz iteration."""
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x: Tensor = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if tall else x
