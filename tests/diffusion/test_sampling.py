"""The chain on data whose best denoiser is known: x_0 ~ N(m, s² I) per value.

    E[x_0 | x_t] = m + gain (x_t - sqrt(a) m),   gain = sqrt(a) s² / (a s² + 1 - a),   a = alpha_bar(t)

With it every sampler is affine in its start and in its noise. A batch whose rows are impulses (one row starts at 1,
one row per draw of noise has a single 1) therefore gives mean and variance of the result exactly.
"""

import math

import pytest
import torch

from ue_audit.diffusion import sampling
from ue_audit.diffusion.schedule import Schedule
from ue_audit.errors import NonFiniteError

SCHEDULE = Schedule.linear()
M, S = 0.3, 0.25  # mean and standard deviation of the data, in the [-1,1] range


def alpha_bar(t):
    return float(SCHEDULE.alpha_bar(t))


def gain(t, s=S):
    a = alpha_bar(t)
    return a**0.5 * s**2 / (a * s**2 + 1 - a)


def denoiser(m=M, s=S):
    return lambda x_t, t: m + gain(t, s) * (x_t - alpha_bar(t) ** 0.5 * m)


def respond(times, sampler, denoise, guidance=sampling.unguided):
    """(slope, offset, variance) of x_0 = offset + slope x_start + noise, exactly."""
    rows = {t: row for row, t in enumerate(times, start=2)}  # row 0: nothing, row 1: the start
    start = torch.zeros(len(times) + 2, 1, 1, 1, dtype=torch.float64)
    start[1] = 1

    def noise(t):
        impulse = torch.zeros_like(start)
        impulse[rows[t]] = 1
        return impulse

    x = sampling.reverse(start, times, sampler, denoise, guidance, noise).flatten()
    return float(x[1] - x[0]), float(x[0]), float((x[2:] - x[0]).square().sum())


def samplers():
    return {
        "large": sampling.ancestral(SCHEDULE, "large"),
        "small": sampling.ancestral(SCHEDULE, "small"),
        "ddim": sampling.ddim(SCHEDULE, 0.0),
        "ddim-half": sampling.ddim(SCHEDULE, 0.5),
        "ddim-full": sampling.ddim(SCHEDULE, 1.0),
    }


def test_timesteps():
    assert sampling.timesteps(5) == [5, 4, 3, 2, 1]
    assert sampling.timesteps(36, 2) == [36, 18]
    assert sampling.timesteps(36, 1) == [36]
    assert sampling.timesteps(10, 4) == [10, 8, 5, 2]
    for t in range(1, 60):
        for steps in range(1, t + 1):
            times = sampling.timesteps(t, steps)
            assert times[0] == t and times[-1] >= 1 and sorted(set(times), reverse=True) == times


@pytest.mark.parametrize("t", [1, 2, 36, 1000])
def test_ancestral_is_the_posterior_of_ddpm(t):
    x_t, x0hat = torch.randn(2, 4, 3, 2, 2, dtype=torch.float64)
    mean, sigma = sampling.ancestral(SCHEDULE, "small")(x_t, x0hat, t, t - 1, sampling.unguided)
    torch.testing.assert_close(mean, SCHEDULE.posterior_mean(x0hat, x_t, t))
    assert sigma**2 == pytest.approx(float(SCHEDULE.posterior_variance(t)), abs=1e-15)
    _, sigma = sampling.ancestral(SCHEDULE, "large")(x_t, x0hat, t, t - 1, sampling.unguided)
    assert sigma**2 == pytest.approx(float(SCHEDULE.beta_at(t)))


@pytest.mark.parametrize(("t", "s"), [(36, 18), (36, 35), (18, 0), (900, 3)])
def test_ddim_at_full_noise_is_ancestral_with_the_small_variance(t, s):
    x_t, x0hat = torch.randn(2, 4, 3, 2, 2, dtype=torch.float64)
    mean, sigma = sampling.ddim(SCHEDULE, 1.0)(x_t, x0hat, t, s, sampling.unguided)
    other_mean, other_sigma = sampling.ancestral(SCHEDULE, "small")(x_t, x0hat, t, s, sampling.unguided)
    torch.testing.assert_close(mean, other_mean)
    assert sigma == pytest.approx(other_sigma, abs=1e-12)


def test_ddim_without_noise_keeps_the_predicted_noise():
    """x_t made of x0 and noise, x0 known: x_s is made of the same two, whatever s."""
    x0, noise = torch.randn(2, 4, 3, 2, 2, dtype=torch.float64)
    step = sampling.ddim(SCHEDULE)
    for s in (99, 50, 1):
        mean, sigma = step(SCHEDULE.q_sample(x0, 100, noise), x0, 100, s, sampling.unguided)
        torch.testing.assert_close(mean, SCHEDULE.q_sample(x0, s, noise))
        assert sigma == 0


@pytest.mark.parametrize("steps", [1, 7, 50, 1000])
def test_unit_data_is_sampled_exactly_at_any_number_of_steps(steps):
    """For s = 1 the true reverse is N(sqrt(a_t / a_s) (x_t - ...), beta): "large" is exact, step by step.

    The last step from t adds no noise, so what is missing is its beta = 1 - alpha_bar(t).
    """
    times = sampling.timesteps(1000, steps)
    slope, offset, variance = respond(times, sampling.ancestral(SCHEDULE, "large"), denoiser(M, 1.0))
    assert slope**2 + variance == pytest.approx(alpha_bar(times[-1]), rel=1e-9)
    assert offset + slope * alpha_bar(1000) ** 0.5 * M == pytest.approx(M, rel=1e-9)


@pytest.mark.parametrize("name", samplers())
def test_every_sampler_reaches_mean_and_variance_of_the_data(name):
    """From x_T ~ N(sqrt(a) m, a s² + 1 - a), the error of the standard deviation falls as steps grow."""
    a = alpha_bar(1000)
    errors = []
    for steps in (100, 1000):
        slope, offset, variance = respond(sampling.timesteps(1000, steps), samplers()[name], denoiser())
        assert offset + slope * a**0.5 * M == pytest.approx(M, abs=1e-9)
        errors.append(abs((slope**2 * (a * S**2 + 1 - a) + variance) ** 0.5 - S))
    assert errors[1] < errors[0] and errors[1] < 0.03 * S


@pytest.mark.parametrize("name", ["large", "small", "ddim-full"])
@pytest.mark.parametrize(("t_purify", "steps"), [(36, 1), (36, 2), (36, None), (20, None), (100, 5)])
def test_purification_shrinks_by_the_posterior_factor(name, t_purify, steps):
    """E[x_0 | x_t] by the tower rule, at any number of steps; diffusing x to t scales it by sqrt(a) once more."""
    slope, offset, _ = respond(sampling.timesteps(t_purify, steps), samplers()[name], denoiser())
    assert slope == pytest.approx(gain(t_purify), rel=1e-9)
    assert offset + slope * alpha_bar(t_purify) ** 0.5 * M == pytest.approx(M, rel=1e-9)


def test_ddim_shrinks_by_the_ratio_of_deviations():
    """Without noise the chain is the flow that maps N(., a s² + 1 - a) to N(., s²): slope s / sqrt(a s² + 1 - a)."""
    a = alpha_bar(100)
    limit = S / math.sqrt(a * S**2 + 1 - a)
    errors = [
        abs(respond(sampling.timesteps(100, steps), samplers()["ddim"], denoiser())[0] - limit)
        for steps in (2, 10, 100)
    ]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.01 * limit


@pytest.mark.parametrize("s", [18, 0])
def test_guidance_shifts_the_mean(s):
    """Ancestral asks it at x_t with the signal of t, DDIM at the mean of x_s with the signal of s."""
    x_t, x0hat = torch.randn(2, 1, 3, 2, 2)
    for name, sampler in samplers().items():
        plain, sigma = sampler(x_t, x0hat, 36, s, sampling.unguided)
        asked = []

        def guidance(*question, asked=asked):
            asked.append(question)
            return 0.5

        guided, same_sigma = sampler(x_t, x0hat, 36, s, guidance)
        assert torch.equal(guided, plain + 0.5) and same_sigma == sigma
        ((x, signal, x0, t),) = asked
        if name.startswith("ddim"):
            assert torch.equal(x, plain) and signal == alpha_bar(s) ** 0.5
        else:
            assert x is x_t and signal == alpha_bar(36) ** 0.5
        assert x0 is x0hat and t == 36


def test_the_last_step_adds_no_noise():
    drawn = []

    def noise(t):
        drawn.append(t)
        return torch.zeros(1, 1, 1, 1)

    sampling.reverse(
        torch.zeros(1, 1, 1, 1), [9, 6, 3], sampling.ancestral(SCHEDULE), denoiser(), sampling.unguided, noise
    )
    assert drawn == [9, 6]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_require_finite(bad):
    sampling.require_finite(torch.ones(3), "x")
    with pytest.raises(NonFiniteError, match="x_le"):
        sampling.require_finite(torch.tensor([1.0, bad]), "x_le")
