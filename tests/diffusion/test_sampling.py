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
        "dpm": sampling.dpm(SCHEDULE),
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


def test_timesteps_even_in_log_snr():
    """The noise falls by one factor from step to step, as near as whole timesteps come; every one is used once."""
    times = sampling.spread(SCHEDULE, 100, 5, "log-snr")
    assert times[0] == 100 and times[-1] == 1
    factor = (float(SCHEDULE.sigma(100)) / float(SCHEDULE.sigma(1))) ** 0.25
    for k, t in enumerate(times):
        wanted = float(SCHEDULE.sigma(100)) / factor**k
        assert t == SCHEDULE.t_for_sigma(wanted) or k in (0, 4)
    for t in (1, 5, 60):
        assert sampling.spread(SCHEDULE, t, 1, "log-snr") == [t]
        for steps in range(2, t + 1):
            times = sampling.spread(SCHEDULE, t, steps, "log-snr")
            assert times[0] == t and times[-1] == 1 and len(set(times)) == steps == len(times)
            assert times == sorted(times, reverse=True)
    assert sampling.spread(SCHEDULE, 36, None, "log-snr") == sampling.timesteps(36)
    assert sampling.spread(SCHEDULE, 36, 2, "time") == [36, 18]


def test_dpm_first_step_is_ddim_and_its_last_is_x0hat():
    """Without a past both are the exponential integrator of first order."""
    x_t, x0hat = torch.randn(2, 4, 3, 2, 2, dtype=torch.float64)
    for s in (30, 1):
        first, sigma = sampling.dpm(SCHEDULE)(x_t, x0hat, 60, s, sampling.unguided)
        of_ddim, _ = sampling.ddim(SCHEDULE)(x_t, x0hat, 60, s, sampling.unguided)
        torch.testing.assert_close(first, of_ddim)
        assert sigma == 0
    last, _ = sampling.dpm(SCHEDULE)(x_t, x0hat, 60, 0, sampling.unguided, (80, x_t))
    assert torch.equal(last, x0hat)


def test_dpm_is_exact_for_an_x0_that_is_linear_in_lambda():
    """Variation of constants: x_s / sigma_s = x_t / sigma_t + integral of e^l x0(l), for x0(l) = l of (l - 1) e^l."""
    lam = {t: float(SCHEDULE.log_snr(t)) / 2 for t in (60, 59, 58)}
    noise = {t: (1 - alpha_bar(t)) ** 0.5 for t in lam}
    x_t, one = 0.7, torch.ones(1, 1, 1, 1, dtype=torch.float64)
    step = sampling.dpm(SCHEDULE)
    found, _ = step(x_t * one, lam[59] * one, 59, 58, sampling.unguided, (60, lam[60] * one))
    whole = noise[58] * (x_t / noise[59] + (lam[58] - 1) * math.exp(lam[58]) - (lam[59] - 1) * math.exp(lam[59]))
    first, _ = step(x_t * one, lam[59] * one, 59, 58, sampling.unguided)
    assert abs(float(found) - whole) < abs(float(first) - whole) / 100


def test_dpm_is_of_second_order(monkeypatch):
    """Twice the steps: a quarter of the error, of DDIM a half. Steps even in log-SNR on a schedule that hardly rounds.

    The flow maps N(., a s² + 1 - a) to N(., a' s² + 1 - a') at the last t, where x0hat is taken.
    """
    monkeypatch.setitem(globals(), "SCHEDULE", Schedule.linear(20_000, 5e-6, 1e-3))
    a, last = alpha_bar(8000), alpha_bar(1)
    limit = math.sqrt((last * S**2 + 1 - last) / (a * S**2 + 1 - a)) * gain(1)
    errors = {}
    for name in ("ddim", "dpm"):
        for steps in (17, 33):
            times = sampling.spread(SCHEDULE, 8000, steps, "log-snr")
            errors[name, steps] = abs(respond(times, samplers()[name], denoiser())[0] - limit)
    assert errors["dpm", 17] / errors["dpm", 33] == pytest.approx(4, rel=0.1)
    assert errors["ddim", 17] / errors["ddim", 33] == pytest.approx(2, rel=0.1)
    assert errors["dpm", 17] < errors["ddim", 17] / 10


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
        if name.startswith("d"):
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
