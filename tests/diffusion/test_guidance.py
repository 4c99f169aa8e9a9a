"""Strengths and gradients of guidance; the table of the released code is held against its preset in test_jcdp.py."""

import pytest
import torch

from ue_audit.diffusion.guidance import perceptual_gradient, released, shares, step_variance, unit
from ue_audit.diffusion.schedule import Schedule

SCHEDULE = Schedule.linear()


class Linear:
    """h(x) = A x: D_p = ||A x - h||² has the gradient 2 A' (A x - h)."""

    name, sha256 = "linear", "0" * 64
    A = torch.tensor([[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]])

    def embed(self, x):
        return x.flatten(1) @ self.A.T


@pytest.mark.parametrize("profile", ["reference", "constant"])
def test_shares_sum_to_one_over_the_times_they_are_for(profile):
    share = shares(SCHEDULE, step_variance(SCHEDULE, [36, 18, 9]), [36, 18], profile)
    assert set(share) == {36, 18} and sum(share.values()) == pytest.approx(1) and min(share.values()) > 0
    assert shares(SCHEDULE, {}, [], profile) == {}


def test_variance_of_steps_of_one_is_beta():
    variance = step_variance(SCHEDULE, [3, 2, 1])
    assert variance == pytest.approx({t: float(SCHEDULE.beta_at(t)) for t in (3, 2, 1)})


def test_reference_shares_are_in_proportion_to_the_released_strengths():
    variance = step_variance(SCHEDULE, [36, 18, 9])
    share = shares(SCHEDULE, variance, variance, "reference")
    strength = released(SCHEDULE, variance, 70000, 8, 500)
    assert share == pytest.approx({t: strength[t] / sum(strength.values()) for t in share})


def test_released_strength_by_hand():
    """One step of beta = .2 to alpha_bar = .8: .2 sqrt(.25) / m / B with m = (2 * 8 / 255) / 3 / 1000; B = 10."""
    schedule = Schedule(torch.tensor([0.2, 0.5], dtype=torch.float64))
    assert released(schedule, {2: 0.5}, 1000, 8, 10) == pytest.approx({2: 0.5 * 1.5**0.5 * 255 * 3 * 1000 / 16 / 10})
    of_1 = released(schedule, {1: 0.2}, 1000, 8, 10)[1]  # variance of the posterior of t = 2: .5 * .2 / .6
    assert of_1 == pytest.approx((0.1 / 0.6) * 0.5 * 255 * 3 * 1000 / 16 / 10)


def test_gradient_of_a_linear_embedding():
    x, h = torch.tensor([[1.0, -1.0], [0.5, 2.0]]).view(2, 1, 1, 2), torch.tensor([[1.0, 0.0, 0.0], [2.0, 1.0, 1.0]])
    by_hand = 2 * (x.flatten(1) @ Linear.A.T - h) @ Linear.A
    torch.testing.assert_close(perceptual_gradient(x, h, Linear()).flatten(1), by_hand)


def test_unit():
    gradient = torch.randn(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    gradient[1] = 0
    length = unit(gradient).flatten(1).norm(dim=1)
    torch.testing.assert_close(length, torch.tensor([1.0, 0.0, 1.0]))
