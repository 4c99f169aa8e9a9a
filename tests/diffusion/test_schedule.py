"""The forward process: closed forms, and the published values of the linear schedule."""

import math

import pytest
import torch

from ue_audit.diffusion.schedule import Schedule
from ue_audit.errors import UsageError

LINEAR = Schedule.linear()


def images(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def test_alpha_bar_is_the_running_product():
    product = 1.0
    assert LINEAR.alpha_bar(0) == 1
    for t in range(1, 1001):
        product *= 1 - (1e-4 + (0.02 - 1e-4) * (t - 1) / 999)
        assert float(LINEAR.alpha_bar(t)) == pytest.approx(product, rel=1e-12)


@pytest.mark.parametrize(("t", "alpha_bar", "levels"), [(21, 0.99374, 10.1), (37, 0.98317, 16.7), (101, 0.89514, 43.6)])
def test_published_values(t, alpha_bar, levels):
    # the literature counts from 0: its index 20 is our t = 21; noise in levels of 255, i.e. sigma * 127.5
    assert float(LINEAR.alpha_bar(t)) == pytest.approx(alpha_bar, abs=5e-6)
    assert float(LINEAR.sigma(t)) * 127.5 == pytest.approx(levels, abs=0.05)


def test_two_steps_by_hand():
    schedule = Schedule(torch.tensor([0.5, 0.2], dtype=torch.float64))
    assert schedule.T == 2
    assert schedule.alpha_bar(torch.tensor([0, 1, 2])).tolist() == pytest.approx([1, 0.5, 0.4])
    assert float(schedule.sigma(1)) == pytest.approx(1)
    assert float(schedule.posterior_variance(2)) == pytest.approx(0.2 * 0.5 / 0.6)


def test_q_sample_mixes_signal_and_noise():
    x0, noise = images(2, 3, 4, 4), torch.ones(2, 3, 4, 4)
    x_t = LINEAR.q_sample(x0, torch.tensor([1, 500]), noise)
    for row, t in enumerate((1, 500)):
        alpha_bar = float(LINEAR.alpha_bar(t))
        torch.testing.assert_close(x_t[row], math.sqrt(alpha_bar) * x0[row] + math.sqrt(1 - alpha_bar))
    assert x_t.dtype == torch.float32


@pytest.mark.parametrize("t", [1, 20, 999])
def test_predict_x0_inverts_q_sample(t):
    x0, noise = images(2, 3, 4, 4).double(), images(2, 3, 4, 4).double()
    torch.testing.assert_close(LINEAR.predict_x0(LINEAR.q_sample(x0, t, noise), noise, t), x0)


@pytest.mark.parametrize("t", [2, 36, 1000])
def test_posterior_is_bayes_rule(t):
    # x_{t-1} given x_0 is N(sqrt(ab') x_0, 1 - ab'), x_t given x_{t-1} is N(sqrt(1 - beta) x_{t-1}, beta):
    # precisions add, and the mean is the precision-weighted one
    before, beta = float(LINEAR.alpha_bar(t - 1)), float(LINEAR.beta_at(t))
    precision = 1 / (1 - before) + (1 - beta) / beta
    x0, x_t = images(1, 3, 2, 2).double(), torch.full((1, 3, 2, 2), 0.3, dtype=torch.float64)
    mean = (math.sqrt(before) / (1 - before) * x0 + math.sqrt(1 - beta) / beta * x_t) / precision
    assert float(LINEAR.posterior_variance(t)) == pytest.approx(1 / precision)
    torch.testing.assert_close(LINEAR.posterior_mean(x0, x_t, t), mean)


def test_the_last_step_returns_x0():
    x0 = images(1, 3, 4, 4)
    torch.testing.assert_close(LINEAR.posterior_mean(x0, images(1, 3, 4, 4) + 5, 1), x0)
    assert LINEAR.posterior_variance(1) == 0


def test_a_tensor_of_timesteps_is_each_timestep():
    x0, noise, t = images(3, 3, 4, 4), images(3, 3, 4, 4), torch.tensor([1, 40, 1000])
    together = LINEAR.posterior_mean(x0, noise, t)
    for row in range(3):
        alone = LINEAR.posterior_mean(x0[row : row + 1], noise[row : row + 1], int(t[row]))
        assert torch.equal(together[row : row + 1], alone)


def test_t_for_sigma():
    assert [LINEAR.t_for_sigma(sigma) for sigma in (0.05, 0.08, 0.13)] == [12, 21, 37]
    assert all(LINEAR.t_for_sigma(float(LINEAR.sigma(t))) == t for t in range(1, 1001))


def test_t_within():
    for t in (1, 60, 999):
        sigma = float(LINEAR.sigma(t))
        assert LINEAR.t_within(sigma) == LINEAR.t_within(sigma * 1.0001) == t
        assert LINEAR.t_within(sigma * 0.9999) == max(1, t - 1)
    assert LINEAR.t_within(0.0) == 1 and LINEAR.t_within(1e9) == 1000


def test_log_snr():
    schedule = Schedule(torch.tensor([0.5, 0.2], dtype=torch.float64))
    assert schedule.log_snr(torch.tensor([1, 2])).tolist() == pytest.approx([0, math.log(0.4 / 0.6)])
    assert schedule.log_snr(0) == math.inf


@pytest.mark.parametrize("t", [0, -1, 1001, torch.tensor([5, 1001])])
def test_timesteps_outside_are_refused(t):
    with pytest.raises(UsageError, match=r"1\.\.1000"):
        LINEAR.beta_at(t)


def test_cosine_falls_as_the_paper_says():
    # arXiv 2102.09672, eq. 17 with s = 0.008: alpha_bar(t) = f(t) / f(0), f(t) = cos²((t/T + s) / (1 + s) pi/2)
    schedule = Schedule.of("cosine", 100, 0.5, 0.5)
    f = [math.cos((t / 100 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(101)]
    assert float(schedule.alpha_bar(40)) == pytest.approx(f[40] / f[0], rel=1e-12)
    assert float(schedule.beta_at(100)) == 0.999  # 1 - f(100)/f(99) is 1


def test_scaled_linear_rises_in_its_root():
    schedule = Schedule.of("scaled-linear", 3, 0.01, 0.09)
    assert schedule.beta.tolist() == pytest.approx([0.1**2, 0.2**2, 0.3**2])
    assert torch.equal(Schedule.of("linear", 7, 0.1, 0.2).beta, Schedule.linear(7, 0.1, 0.2).beta)
