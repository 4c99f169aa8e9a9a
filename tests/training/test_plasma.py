"""Plasma fractals: the rule transcribed place by place, and what it says about range, mean and variance."""

import pytest
import torch

from ue_audit.training import plasma


def maps(roughness, n=400, shape=(1, 9, 9), seed=0):
    return plasma.fractals(torch.full((n,), roughness), shape, torch.Generator().manual_seed(seed))


def test_a_round_is_the_rule_taken_place_by_place():
    known = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(1))
    s = torch.tensor([0.3, 0.8]).view(2, 1, 1)
    found = plasma.refine(known, s, torch.Generator().manual_seed(2))
    draws = torch.Generator().manual_seed(2)
    middle, along, down = (torch.rand(2, *shape, generator=draws) for shape in ((2, 2), (3, 2), (2, 3)))
    for m in range(2):
        share = float(s[m])
        for i in range(5):
            for j in range(5):
                kind = (i % 2, j % 2)
                if kind == (0, 0):
                    assert found[m, i, j] == known[m, i // 2, j // 2]
                    continue
                steps = [(-1, -1), (-1, 1), (1, -1), (1, 1)] if kind == (1, 1) else [(-1, 0), (1, 0), (0, -1), (0, 1)]
                near = [(i + a, j + b) for a, b in steps if 0 <= i + a < 5 and 0 <= j + b < 5]
                mean = sum(float(found[m, a, b]) for a, b in near) / len(near)
                u = {(1, 1): middle, (0, 1): along, (1, 0): down}[kind][m, i // 2, j // 2]
                assert float(found[m, i, j]) == pytest.approx((1 - share) * mean + share * float(u), abs=1e-6)


@pytest.mark.parametrize("roughness", [0.0, 0.3, 0.7, 1.0])
def test_values_stay_in_range_around_a_half(roughness):
    found = maps(roughness)
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    # corners have a variance of 1/12, no place has more: the mean of 400 maps is within 4 sqrt(1/12/400) = 0.058
    assert float((found.mean(0) - 0.5).abs().max()) < 0.06


def test_roughness_one_is_white_noise_and_nought_is_a_slope():
    white = maps(1.0) - 0.5
    assert float(white.var()) == pytest.approx(1 / 12, rel=0.05)
    assert float((white[..., 1:] * white[..., :-1]).mean().abs()) < 0.002
    smooth = maps(0.0)
    corners = smooth[..., ::8, ::8].mean((2, 3))
    assert torch.allclose(smooth[..., 4, 4], corners, atol=1e-6)  # the mean of the four, no chance added


def test_the_middle_of_the_first_square_has_its_closed_form_variance():
    # (1 - r) * mean of four uniforms + r * a uniform: ((1 - r)^2 / 4 + r^2) / 12
    r = 0.6
    found = maps(r, n=8000, shape=(1, 3, 3))[:, 0, 1, 1].var()
    assert float(found) == pytest.approx(((1 - r) ** 2 / 4 + r**2) / 12, rel=0.06)


def test_the_rougher_the_more_neighbours_differ():
    steps = [float((m[..., 1:] - m[..., :-1]).square().mean()) for m in map(maps, (0.3, 0.5, 0.7))]
    assert steps[0] < 0.5 * steps[1] < 0.25 * steps[2]


@pytest.mark.parametrize("shape", [(3, 1, 1), (3, 2, 2), (1, 3, 3), (3, 5, 20), (3, 33, 32)])
def test_any_size_every_channel_and_every_image_apart(shape):
    found = maps(0.5, n=4, shape=shape)
    assert found.shape == (4, *shape)
    flat = found.reshape(4 * shape[0], -1)
    assert len(flat.unique(dim=0)) == len(flat)


def test_roughness_is_each_images_own():
    draws = torch.Generator().manual_seed(0)
    mixed = plasma.fractals(torch.tensor([0.2, 0.9]), (2, 17, 17), draws)
    for value, image in ((0.2, 0), (0.9, 1)):
        alone = plasma.fractals(torch.full((2,), value), (2, 17, 17), torch.Generator().manual_seed(0))
        assert torch.equal(mixed[image], alone[image])
