"""Muon: its step by the formula, with the singular values that the iteration gives."""

import pytest
import torch

from ue_audit.diffusion.muon import Muon, orthogonal


def test_orthogonal_sets_singular_values_to_about_one():
    dice = torch.Generator().manual_seed(0)
    for shape in ((8, 30), (30, 8), (16, 16)):
        matrix = torch.randn(*shape, generator=dice)
        values = torch.linalg.svdvals(orthogonal(matrix))
        assert values.min() > 0.3 and values.max() < 1.3
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        mixed = left.T @ orthogonal(matrix) @ right.T  # the singular vectors stay
        torch.testing.assert_close(mixed, mixed.diagonal().diag(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (12, 4, 3, 3)])
def test_two_steps_by_the_formula(shape):
    """m <- momentum m + g; w <- w - lr sqrt(max(1, rows / columns)) orthogonal(g + momentum m)."""
    dice = torch.Generator().manual_seed(1)
    weight = torch.randn(*shape, generator=dice).requires_grad_()
    expected, average = weight.detach().clone(), torch.zeros(shape)
    optimiser = Muon([weight], lr=0.1, momentum=0.9)
    rows, columns = shape[0], weight.numel() // shape[0]
    for _ in range(2):
        weight.grad = torch.randn(*shape, generator=dice)
        average = 0.9 * average + weight.grad
        move = orthogonal((weight.grad + 0.9 * average).flatten(1)).reshape(shape)
        expected = expected - 0.1 * max(1, rows / columns) ** 0.5 * move
        optimiser.step()
        torch.testing.assert_close(weight.detach(), expected)


def test_a_weight_without_a_gradient_stays():
    moved, still = torch.ones(4, 4, requires_grad=True), torch.ones(4, 4, requires_grad=True)
    moved.grad = torch.eye(4)
    Muon([moved, still]).step()
    assert torch.equal(still.detach(), torch.ones(4, 4)) and not torch.equal(moved.detach(), torch.ones(4, 4))
