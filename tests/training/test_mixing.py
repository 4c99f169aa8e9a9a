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
    """lam CE(., y) + (1 - lam) CE(., y_other), image by image."""
    n = 6
    x, y = torch.rand(n, 3, 8, 8, generator=dice()), torch.arange(n) % 3
    mix = mixing.draw(n, 1.0, 0.7, dice(1))
    mixed, lam = mixing.mixup(x, x[mix.partner], mix)
    logits = torch.randn(n, 3, generator=dice(2))
    literal = 0.0
    for i in range(n):
        j, share = int(mix.partner[i]), float(mix.lam[i])
        assert torch.allclose(mixed[i], share * x[i] + (1 - share) * x[j], atol=1e-6)
        of_first, of_other = (float(F.cross_entropy(logits[i : i + 1], y[k : k + 1])) for k in (i, j))
        literal += (share * of_first + (1 - share) * of_other) / n
    shares = torch.lerp(F.one_hot(y[mix.partner], 3).float(), F.one_hot(y, 3).float(), lam[:, None])
    assert float(F.cross_entropy(logits, shares)) == pytest.approx(literal, rel=1e-5)


def test_cutmix_counts_what_its_box_leaves():
    n = 60
    x = torch.arange(n).view(n, 1, 1, 1).expand(n, 3, 32, 32).float()
    mix = mixing.draw(n, 1.0, 1.0, dice())
    mixed, lam = mixing.cutmix(x, x[mix.partner], mix)
    for k in range(n):
        own = float((mixed[k] == k).float().mean())
        assert own == pytest.approx(1.0 if int(mix.partner[k]) == k else float(lam[k]))
    assert bool((lam >= mix.lam - 0.07).all())  # cut at the border a box is smaller; rounded, by half a pixel a side


def test_a_box_by_hand():
    """1 - lam = 1/4 is half the side: 16 x 16 in the middle, a quarter of that in a corner."""
    x = torch.zeros(2, 3, 32, 32)
    centre = torch.tensor([0.5, 0.0])
    mix = mixing.Mix(torch.tensor([1, 0]), torch.tensor([0.75, 0.75]), centre, centre)
    mixed, lam = mixing.cutmix(x, x + 1, mix)
    assert lam.tolist() == [0.75, 1 - 64 / 1024]
    assert bool((mixed[0, :, 8:24, 8:24] == 1).all()) and bool((mixed[1, :, :8, :8] == 1).all())


def test_an_image_that_is_not_mixed_stays_bit_by_bit():
    x = torch.rand(9, 3, 8, 8, generator=dice())
    mix = mixing.draw(9, 1.0, 0.0, dice())
    for mix_two in (mixing.mixup, mixing.cutmix):
        mixed, lam = mix_two(x, x[mix.partner], mix)
        assert torch.equal(mixed, x) and lam.tolist() == [1.0] * 9


def test_shares_are_beta_and_as_frequent_as_asked():
    """Beta(1, 1) is uniform; Beta(.2, .2) lies near 0 and 1: its variance is 1 / (4 (2 a + 1))."""
    for alpha in (1.0, 0.2):
        drawn = mixing.draw(20000, alpha, 1.0, dice()).lam
        assert float(drawn.mean()) == pytest.approx(0.5, abs=0.01)
        assert float(drawn.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)
    assert float((mixing.draw(20000, 1.0, 0.3, dice()).lam < 1).float().mean()) == pytest.approx(0.3, abs=0.01)
