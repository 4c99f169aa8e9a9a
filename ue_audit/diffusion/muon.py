"""Muon (Jordan et al., 2024): momentum whose singular values are all set to about one before the step.

    m <- momentum m + g;   u = g + momentum m;   w <- w - lr sqrt(max(1, rows / columns)) orthogonal(u)

A convolution is the matrix (out, in * kh * kw). For hidden layers only: the first and the last layer, biases and
embeddings are left to Adam. On short runs it reaches Adam's loss in about half the steps; torch's own
`torch.optim.Muon` takes matrices only.
"""

from collections.abc import Callable, Iterable

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
            for weights in _of_one_shape(w for w in group["params"] if w.grad is not None):
                self._move(weights, group["lr"], group["momentum"])

    def _move(self, weights: list[Tensor], lr: float, momentum: float) -> None:
        """Matrices of one shape take their step together: a GPU waits for launches, not for arithmetic."""
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        averages = [self.state[w].setdefault("momentum", torch.zeros_like(w)) for w in weights]
        torch._foreach_mul_(averages, momentum)
        torch._foreach_add_(averages, gradients)
        updates = torch.stack(torch._foreach_add(gradients, averages, alpha=momentum)).flatten(2)
        rows, columns = updates.shape[1:]
        scale = max(1.0, rows / columns) ** 0.5
        moves = orthogonal(updates).reshape(-1, *weights[0].shape).unbind()
        torch._foreach_add_(weights, moves, alpha=-lr * scale)


def _of_one_shape(weights: Iterable[Tensor]) -> list[list[Tensor]]:
    """Those that move together; on a CPU each by itself, which is a tenth faster there."""
    shapes: dict[object, list[Tensor]] = {}
    for weight in weights:
        shapes.setdefault(weight if weight.device.type == "cpu" else weight.shape, []).append(weight)
    return list(shapes.values())


def orthogonal(matrices: Tensor) -> Tensor:
    """(..,R,C) with all singular values brought near one (0.7 to 1.2), by Newton-Schulz iteration."""
    a, b, c = QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x: Tensor = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
