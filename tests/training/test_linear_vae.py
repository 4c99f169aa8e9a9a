"""The linear autoencoder against what is known of Gaussian patches, and against the images' order."""

import math

import pytest
import torch

from ue_audit.training import linear_vae

X = torch.rand(24, 3, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24) % 3


def fitted(x=X, y=Y, order=None, patch=2, rate=2.0):
    order = torch.arange(len(x)) if order is None else order
    return linear_vae.fit(lambda rows: x[rows], y, 3, order, patch, rate)


def test_water_level_by_hand():
    """l = 4, 1: at t = 1/2 the rate is (ln 8 + ln 2) / 2; at t = 2 only the first is coded, (ln 2) / 2."""
    l = torch.tensor([1.0, 4.0], dtype=torch.float64)  # noqa: E741
    assert linear_vae.water_level(l, (math.log(8) + math.log(2)) / 2) == pytest.approx(0.5)
    assert linear_vae.water_level(l, math.log(2) / 2) == pytest.approx(2.0)


def test_the_error_is_that_of_reverse_water_filling():
    """The mean code errs by t^2 / l where l > t and by l elsewhere, summed over directions, averaged over patches."""
    coder, rate, patch = fitted(rate=1.5), 1.5, 2
    u = linear_vae._patches(X.double(), patch).flatten(0, 1)
    l = torch.linalg.eigvalsh(torch.cov(u.T, correction=0))  # noqa: E741
    t = linear_vae.water_level(l, rate)
    expected = torch.where(l > t, t**2 / l, l).sum() / (3 * patch**2)
    assert float((coder.image(X) - X).square().mean()) == pytest.approx(float(expected), rel=1e-4)


def test_rates_from_none_to_all():
    flat = fitted(rate=0.0).image(X)
    torch.testing.assert_close(flat, X.unfold(2, 2, 2).unfold(3, 2, 2).mean((0, 2, 3)).repeat(1, 4, 4).expand_as(X))
    torch.testing.assert_close(fitted(rate=200.0).image(X), X, rtol=0, atol=1e-5)


def test_the_perturbation_is_what_a_class_shares():
    """p of a class is the mean of x - x^ over it: with nothing coded, its mean image less the mean patch."""
    coder = fitted(rate=0.0)
    for k in range(3):
        torch.testing.assert_close(coder.perturbations[k], (X - coder.image(X))[k == Y].mean(0), rtol=0, atol=1e-6)
    assert fitted(y=torch.zeros_like(Y)).perturbations[2].abs().max() == 0  # a class without images


def test_the_order_of_the_rows_and_chunks_do_not_matter(monkeypatch):
    whole = fitted()
    turned = fitted(order=torch.randperm(len(X), generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(turned.map, whole.map, rtol=0, atol=1e-6)
    monkeypatch.setattr(linear_vae, "CHUNK_PIXELS", 5 * 64)
    parts = fitted()
    torch.testing.assert_close(parts.map, whole.map, rtol=0, atol=1e-6)
    torch.testing.assert_close(parts.perturbations, whole.perturbations, rtol=0, atol=1e-6)


@pytest.mark.parametrize("patch", [3, 5, 8, 16])
def test_sides_that_patches_do_not_fill(patch):
    coder = fitted(patch=patch)
    assert coder.image(X).shape == X.shape and coder.perturbations.shape == (3, 3, 8, 8)
