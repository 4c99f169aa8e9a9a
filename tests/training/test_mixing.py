"""Cutout, Mixup and CutMix: boxes, shares, and the loss of a mixed batch."""

import pytest
import torch
from torch.nn import functional as F

from ue_audit.training import mixing


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def test_a_hole_is_half_the_side_and_cut_at_the_border():
    x = torch.ones(4, 3, 32, 32)
    half = torch.full((4,), 0.5)
    centre = (torch.tensor([0.5, 0.0, 0.5, 0.99]), torch.tensor([0.5, 0.5, 0.0, 0.99]))
    left = mixing.holes(x, half, centre, (0.0, 0.0, 0.0))
    assert [int(256 - image.sum() / 3 + 32 * 32 - 256) for image in left] == [256, 128, 128, 81]
    assert (left[0, :, 8:24, 8:24] == 0).all()  # pixels 16 - 8 to 16 + 7
    assert (left[1, :, :8, 8:24] == 0).all() and (left[3, :, 23:, 23:] == 0).all()


def test_the_mean_area_of_a_hole():
    """A span of 16 about a pixel uniform on 0..31 keeps 8 of 16 at 0, 9 at 1, .. 16 at 8..24, .. 9 at 31: mean 13."""
    spans = [min(c + 8, 32) - max(c - 8, 0) for c in range(32)]
    x = mixing.cutout(torch.ones(4000, 3, 32, 32), 0.5, dice())
    assert float((x == 0).float().mean()) == pytest.approx((sum(spans) / 32 / 32) ** 2, rel=0.03)


def test_mixup_and_its_loss():
    x, y = torch.rand(6, 3, 8, 8, generator=dice()), torch.arange(6) % 3
    mix = mixing.draw(6, 1.0, dice(1))
    mixed, lam = mixing.mixup(x, mix)
    logits = torch.randn(6, 3, generator=dice(2))
    assert torch.allclose(mixed, lam * x + (1 - lam) * x[mix.partner])
    literal = lam * F.cross_entropy(logits, y) + (1 - lam) * F.cross_entropy(logits, y[mix.partner])
    shares = torch.lerp(F.one_hot(y[mix.partner], 3).float(), F.one_hot(y, 3).float(), lam)
    assert F.cross_entropy(logits, shares) == pytest.approx(float(literal), rel=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_cutmix_counts_what_its_box_leaves(seed):
    x = torch.stack([torch.full((3, 32, 32), float(k)) for k in range(5)])
    mix = mixing.draw(5, 1.0, dice(seed))
    mixed, lam = mixing.cutmix(x, mix)
    for k in range(5):
        own = float((mixed[k] == k).float().mean())
        assert own == pytest.approx(1.0 if int(mix.partner[k]) == k else lam)
    inside = mix._replace(lam=0.75, down=0.5, along=0.5)  # a box of half the side in the middle
    assert mixing.cutmix(x, inside)[1] == 0.75


def test_shares_are_beta():
    """Beta(1, 1) is uniform; Beta(.2, .2) lies near 0 and 1: its variance is 1 / (4 (2 a + 1))."""
    for alpha in (1.0, 0.2):
        drawn = torch.tensor([mixing.draw(2, alpha, dice(seed)).lam for seed in range(1500)])
        assert float(drawn.mean()) == pytest.approx(0.5, abs=0.04)
        assert float(drawn.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)
