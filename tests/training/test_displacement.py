"""COIN's displacement: what must stay, and a literal transcription."""

import pytest
import torch

from ue_audit.training import displacement


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def displace(x, reach, generator):
    return displacement.fetch(x, displacement.draw(x, reach, generator))


def test_a_flat_image_stays_and_nothing_leaves_its_range():
    flat = torch.full((2, 3, 9, 9), 0.3)
    assert torch.allclose(displace(flat, 2 / 32, dice()), flat)
    x = torch.rand(3, 3, 16, 16, generator=dice())
    moved = displace(x, 2 / 32, dice(1))
    assert moved.shape == x.shape and moved.min() >= 0 and moved.max() <= 1 and not torch.equal(moved, x)


def test_without_reach_nothing_moves():
    x = torch.rand(2, 3, 8, 8, generator=dice())
    assert torch.equal(displace(x, 0.0, dice()), x)


def test_whole_pixels_are_a_roll():
    """out(i, j) = x(i + 1, j - 2) for all pixels: rows roll up by 1, columns right by 2."""
    x = torch.rand(2, 3, 6, 8, generator=dice())
    moved = torch.tensor([1.0, -2.0]).view(2, 1, 1, 1).expand(2, 2, 6, 8)
    assert torch.equal(displacement.fetch(x, moved), x.roll((-1, 2), (2, 3)))


def test_places_are_drawn_evenly_within_reach():
    """2 of 32 px; the variance of U(-2, 2) is 4/3."""
    drawn = displacement.draw(torch.zeros(8, 3, 32, 32), 2 / 32, dice())
    assert drawn.shape == (2, 8, 32, 32) and 1.99 < float(drawn.abs().max()) <= 2
    assert float(drawn.var()) == pytest.approx(4 / 3, rel=0.02)


def test_bilinear_and_wrapped_round():
    """Pixel by pixel, from the same draw."""
    n, side, reach = 2, 5, 0.4
    x = torch.rand(n, 3, side, side, generator=dice())
    moved = displace(x, reach, dice(1))
    drawn = 2 * torch.rand(2, n, side, side, generator=dice(1)) - 1
    for k in range(n):
        for i in range(side):
            for j in range(side):
                a, b = i + reach * side * float(drawn[0, k, i, j]), j + reach * side * float(drawn[1, k, i, j])
                top, left = int(a // 1), int(b // 1)
                total = torch.zeros(3)
                for r, wr in ((top, 1 - (a - top)), (top + 1, a - top)):
                    for c, wc in ((left, 1 - (b - left)), (left + 1, b - left)):
                        total += wr * wc * x[k, :, r % side, c % side]
                assert torch.allclose(moved[k, :, i, j], total, atol=1e-5)
