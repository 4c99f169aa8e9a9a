"""Signed steps: on a linear loss their result is known in closed form."""

import torch

from ue_audit.training import pgd

EPS = 8 / 255


def test_a_linear_loss_drives_every_pixel_to_its_bound():
    # gradient g everywhere: after k steps of a, d = -min(k a, eps) sign(g), cut where x + d leaves [0,1]
    x = torch.tensor([0.5, 0.5, 0.01, 0.99, 0.5]).view(1, 1, 1, 5)
    g = torch.tensor([1.0, -2.0, 3.0, -1.0, 0.0]).view(1, 1, 1, 5)
    for k, reach in ((3, 3 * EPS / 10), (20, EPS)):
        d = pgd.descend(x, torch.zeros_like(x), lambda u: g, eps=EPS, alpha=EPS / 10, steps=k)
        expected = torch.tensor([-reach, reach, -min(reach, 0.01), min(reach, 0.01), 0.0])
        assert torch.allclose(d.flatten(), expected, atol=1e-6)


def test_a_negative_step_ascends():
    x = torch.full((1, 1, 1, 1), 0.5)
    d = pgd.descend(x, torch.zeros_like(x), torch.ones_like, eps=EPS, alpha=-EPS, steps=1)
    assert torch.allclose(d, torch.full_like(d, EPS))


def test_projection_keeps_both_signs_both_bounds_and_is_idempotent():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, 3, 8, 8, generator=generator)
    d = pgd.project(x, torch.randn(4, 3, 8, 8, generator=generator), EPS)
    assert float(d.abs().max()) <= torch.tensor(EPS)
    assert float((x + d).min()) >= 0 and float((x + d).max()) <= 1
    assert 0.3 < float((d < 0).float().mean()) < 0.7
    assert torch.equal(pgd.project(x, d, EPS), d)


def test_the_pixel_gradient_is_the_derivative():
    u = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    assert torch.allclose(pgd.pixel_gradient(lambda v: (v**3).sum())(u), 3 * u**2)
