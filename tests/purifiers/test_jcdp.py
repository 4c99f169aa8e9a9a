"""JCDP against its algorithm, transcribed; on data whose best denoiser is known; and its invariances."""

from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from ue_audit.config import load_preset
from ue_audit.diffusion.guidance import perceptual_gradient
from ue_audit.diffusion.noise import Stream
from ue_audit.diffusion.prior import load_prior
from ue_audit.diffusion.sampling import ancestral, ddim, denoiser, dpm, reverse, timesteps, unguided
from ue_audit.diffusion.schedule import Schedule
from ue_audit.errors import NonFiniteError, ResourceError, UsageError
from ue_audit.purifiers import ddpm, jcdp
from ue_audit.tools import Batch, Tools
from ue_audit.training.perceptual import PriorFeatures

SCHEDULE = Schedule.linear()
DATA = SimpleNamespace(size=8)


class RandomNet:
    """A guide in the place of LPIPS: a random two-layer network on 8x8 images."""

    name, sha256 = "random", "0" * 64

    def __init__(self):
        generator = torch.Generator().manual_seed(5)
        self.first = torch.randn(192, 64, generator=generator, dtype=torch.float64) / 192**0.5
        self.second = torch.randn(64, 32, generator=generator, dtype=torch.float64) / 8

    def embed(self, x):
        return torch.tanh(x.double().flatten(1) @ self.first).to(x.dtype) @ self.second.to(x.dtype)


def images(n, seed=1):
    return torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def batch(n=6):
    return Batch(images(n), None, torch.arange(n), [f"class/{i}.png" for i in range(n)])


def rows(whole, index):
    index = list(index)
    return Batch(whole.x[index], None, whole.rows[index], [whole.keys[i] for i in index])


def build(prior_file, seed=0, **settings):
    settings = {"precision": "float32", **settings}
    return jcdp.build(DATA, jcdp.Config(**settings), Tools(seed=seed, weights={"prior": prior_file}))


def no_noise(t, use):
    raise AssertionError("a noise-free target draws nothing")


def guidance_of(x_ue, times, config, guide=None):
    """The shift of the mean of x_s, for targets without noise."""
    return partial(jcdp.Joint(x_ue, SCHEDULE, times, config, guide).shift, no_noise)


def levels(x):
    return (255 * x).round().to(torch.int16)


# -- transcribed -------------------------------------------------------------------------------------------


def algorithm_1(prior, x_ue, stream, config) -> Tensor:
    """One image (1,3,S,S) in [-1,1] by the letters of Algorithm 1, in the readings that `jcdp` states."""
    T_p, N = config.t_purify, config.passes
    guide = PriorFeatures(prior, "")
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    a = [1.0] + torch.cumprod(1 - beta, 0).tolist()  # a[t]: alpha bar
    weight = [0.0] + [float(beta[t - 1]) * ((1 - a[t]) / a[t]) ** 0.5 for t in range(1, T_p + 1)]
    x_0 = x_ue
    for n in range(N):
        x = a[T_p] ** 0.5 * x_0 + (1 - a[T_p]) ** 0.5 * stream(n, 0)
        for t in range(T_p, 0, -1):
            b = float(beta[t - 1])
            epsilon = prior.predict_noise(x, torch.tensor([t]))
            x0hat = ((x - (1 - a[t]) ** 0.5 * epsilon) / a[t] ** 0.5).clamp(-1, 1)
            mu = a[t - 1] ** 0.5 * b / (1 - a[t]) * x0hat + (1 - b) ** 0.5 * (1 - a[t - 1]) / (1 - a[t]) * x
            point = x.clone().requires_grad_()
            D_m = ((point - a[t] ** 0.5 * x_ue) ** 2).sum() / 2
            lambda_1 = config.pixel_pull * weight[t] / sum(weight) / b
            d_1 = -lambda_1 * torch.autograd.grad(D_m, point)[0]
            point = x0hat.clone().requires_grad_()
            D_p = ((guide.embed(point) - guide.embed(x_ue)) ** 2).sum()
            lambda_2 = config.perceptual_scale * weight[t] / sum(weight) / b
            d_2 = -lambda_2 * torch.autograd.grad(D_p, point)[0]
            z = stream(n, t) if t > 1 else 0.0
            x = mu + b * (d_1 + d_2) + b**0.5 * z
        x_0 = x
    return ((x_0 + 1) / 2).clamp(0, 1)


def test_is_algorithm_1(prior_file):
    settings = {"t_purify": 5, "passes": 2, "steps": None, "sampler": "ancestral", "perceptual_step": "raw"}
    config = jcdp.Config(**settings, pixel_pull=0.3, perceptual_scale=2.0)
    purified = build(prior_file, seed=4, **config.model_dump(include={*settings, "pixel_pull", "perceptual_scale"}))
    given = batch(2)
    by_letter = []
    for row in range(2):
        stream = Stream(4, [given.keys[row]], (3, 8, 8), "cpu")
        by_letter.append(algorithm_1(load_prior(prior_file), 2 * given.x[row : row + 1] - 1, stream, config))
    result = purified(given)
    torch.testing.assert_close(result, torch.cat(by_letter), rtol=0, atol=2e-5)
    plain = build(prior_file, seed=4, **settings, guidance="none")(given)
    assert (result - plain).abs().max() > 1e-2  # the guidance was felt


def released_step(prior, x, i, x_ue, draw, config):
    """One step of the released code by the letters of its description, for an image in a batch of B; its index i."""
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    a = torch.cumprod(1 - beta, 0)
    before = float(a[i - 1]) if i else 1.0
    guide, B, S, ptb = PriorFeatures(prior, ""), config.released_batch, config.released_scale, config.released_levels
    epsilon = prior.predict_noise(x, torch.tensor([i + 1]))
    x0hat = ((x - (1 - a[i]).sqrt() * epsilon) / a[i].sqrt()).float().clamp(-1, 1)
    mu = float(beta[i]) * before**0.5 / float(1 - a[i]) * x0hat
    mu = mu + float((1 - beta[i]).sqrt()) * (1 - before) / float(1 - a[i]) * x
    variance = float(beta[i]) if i else float(beta[1] * (1 - a[0]) / (1 - a[1]))
    target = float(a[i].sqrt()) * x_ue + float((1 - a[i]).sqrt()) * draw(i + 1, 1 if i > 10 else 2)
    point = x.clone().requires_grad_()
    if i > 10:
        D = ((point - target) ** 2).sum() / (B * point.numel())  # the mean over a batch of B
    else:
        D = ((guide.embed(point) - guide.embed(target)) ** 2).sum() / B
    g = -torch.autograd.grad(D, point)[0]
    m = (2 * ptb / 255) / 3 / S
    scale = float((1 - a[i]).sqrt() / (m * a[i].sqrt()))
    return mu + variance * scale * g + (variance**0.5 * draw(i + 1, 0) if i else 0.0)


def test_reference_preset_is_the_released_loop(prior_file):
    """At a batch of 5, where guidance is felt; LPIPS needs larger images, so h is the prior's."""
    fields = load_preset("purify", "jcdp-reference") | {"guide": "prior-features", "released_batch": 5, "passes": 1}
    fields.pop("method")
    given, prior, config = batch(1), load_prior(prior_file), jcdp.Config(**fields)
    draw = partial(Stream(4, given.keys, (3, 8, 8), "cpu"), 0)
    x_ue, a = 2 * given.x - 1, float(SCHEDULE.alpha_bar(21))  # index 20
    y = a**0.5 * x_ue + (1 - a) ** 0.5 * draw(0)
    for i in range(19, -1, -1):
        y = released_step(prior, y, i, x_ue, draw, config)
    result = build(prior_file, seed=4, **fields)(given)
    torch.testing.assert_close(result, ((y + 1) / 2).clamp(0, 1).float(), rtol=0, atol=5e-5)
    assert (result - build(prior_file, seed=4, **fields | {"guidance": "none"})(given)).abs().max() > 1e-2


# -- derived: Gaussian data --------------------------------------------------------------------------------

S2 = 0.25**2  # variance of the data, mean 0, in [-1,1] units


class Responses(NamedTuple):
    """What becomes of x_ue (signal) and of the chain's noise, per value: x_le = signal x_ue + noise."""

    signal: float
    noise: float


def gaussian(x_t, t):
    """E[x_0 | x_t] for x_0 ~ N(0, S2)."""
    a = float(SCHEDULE.alpha_bar(t))
    return a**0.5 * S2 / (a * S2 + 1 - a) * x_t


def respond(config) -> Responses:
    """Exact: row 0 is an image of ones, every other row is one draw of noise with a 1 in it."""
    times = timesteps(config.t_purify, config.steps)
    samplers = {"ddim": ddim(SCHEDULE, config.eta), "ancestral": ancestral(SCHEDULE, config.variance)}
    sampler = {**samplers, "dpm": dpm(SCHEDULE)}[config.sampler]
    draws = {(n, t): row for row, (n, t) in enumerate([(n, t) for n in range(config.passes) for t in [0, *times]], 1)}
    x_ue = torch.zeros(len(draws) + 1, 1, 1, 1, dtype=torch.float64)
    x_ue[0] = 1

    def noise(n, t):
        impulse = torch.zeros_like(x_ue)
        impulse[draws[n, t]] = 1
        return impulse

    applied = jcdp.Joint(x_ue, SCHEDULE, times, config, None).applied(gaussian, no_noise)
    x = x_ue
    for n in range(config.passes):
        x = SCHEDULE.q_sample(x, config.t_purify, noise(n, 0))
        x = reverse(x, times, sampler, *applied, partial(noise, n))
    return Responses(float(x[0]), float(x[1:].square().sum()))


def shrink(t):
    """sqrt(a) times the slope of E[x_0 | x_t]: what a pass leaves of an image."""
    a = float(SCHEDULE.alpha_bar(t))
    return a * S2 / (a * S2 + 1 - a)


def test_unguided_passes_shrink_by_a_power():
    for sampler in ("ddim", "ancestral"):
        for passes in (1, 2, 4):
            config = jcdp.Config(t_purify=36, passes=passes, sampler=sampler, guidance="none")
            assert respond(config).signal == pytest.approx(shrink(36) ** passes, rel=1e-9)


def test_pull_in_one_ddim_step():
    """x_0 = (1 - kappa) x0hat + kappa x_ue, so the signal is (1 - kappa) shrink + kappa; kappa is at most 1."""
    for pull, kappa in ((0.0, 0.0), (0.3, 0.3), (1.0, 1.0), (7.0, 1.0)):
        found = respond(jcdp.Config(t_purify=36, passes=1, steps=1, pixel_pull=pull, perceptual_scale=0))
        assert found.signal == pytest.approx((1 - kappa) * shrink(36) + kappa, rel=1e-9)
    assert found == (pytest.approx(1, rel=1e-12), pytest.approx(0, abs=1e-12))  # x_ue itself


def test_pull_in_one_ancestral_step():
    """x_0 = x0hat - kappa (x_t - sqrt(a) x_ue): the image in x_t cancels, its noise stays, kappa times."""
    config = jcdp.Config(t_purify=36, passes=1, steps=1, sampler="ancestral", pixel_pull=0.3)
    found, a = respond(config), float(SCHEDULE.alpha_bar(36))
    slope = shrink(36) / a**0.5
    assert found.signal == pytest.approx(shrink(36), rel=1e-9)
    assert found.noise == pytest.approx((slope - 0.3) ** 2 * (1 - a), rel=1e-9)


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
@pytest.mark.parametrize("profile", ["reference", "constant"])
def test_pull_over_a_chain(sampler, profile):
    """The recursion of signal and slope, written out with scalars."""
    config = jcdp.Config(
        t_purify=36, passes=1, steps=6, sampler=sampler, variance="small", profile=profile, pixel_pull=0.6
    )
    a = {t: float(SCHEDULE.alpha_bar(t)) for t in (36, 30, 24, 18, 12, 6, 0)}
    weight = {}
    for t in (36, 30, 24, 18, 12, 6):
        beta = 1 - a[t] / a[t - 6]
        weight[t] = beta * ((1 - a[t]) / a[t]) ** 0.5 if profile == "reference" else 1.0
    signal = a[36] ** 0.5
    for t in (36, 30, 24, 18, 12, 6):
        s, beta, kappa = t - 6, 1 - a[t] / a[t - 6], 0.6 * weight[t] / sum(weight.values())
        x0 = a[t] ** 0.5 * S2 / (a[t] * S2 + 1 - a[t]) * signal
        of_x0 = a[s] ** 0.5 * beta / (1 - a[t])
        of_x_t = (a[t] / a[s]) ** 0.5 * (1 - a[s]) / (1 - a[t])
        mean = of_x0 * x0 + of_x_t * signal
        gap = mean - a[s] ** 0.5 if sampler == "ddim" else signal - a[t] ** 0.5
        signal = mean - kappa * gap
    assert respond(config).signal == pytest.approx(signal, rel=1e-9)


def test_samplers_agree_with_guidance_as_steps_grow():
    """What a pull puts back of x_ue does not depend on the sampler, nor, then, on the number of steps."""

    def put_back(**chain):
        kept = [respond(jcdp.Config(t_purify=100, passes=1, pixel_pull=pull, **chain)).signal for pull in (0, 0.1)]
        return kept[1] - kept[0]

    limit = put_back(sampler="ancestral", steps=None)
    errors = [abs(put_back(sampler="ddim", steps=steps) / limit - 1) for steps in (2, 10, 100)]
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.05


def test_proximal_step_in_one_step():
    """x_0 = (x0hat + k x_ue) / (1 + k), whatever the sampler."""
    for sampler in ("ddim", "ancestral", "dpm"):
        for k in (0.0, 0.5, 100.0):
            chain = {"t_purify": 36, "passes": 1, "steps": 1, "sampler": sampler}
            found = respond(jcdp.Config(**chain, acts_on="x0hat", pixel_pull=k)).signal
            assert found == pytest.approx((shrink(36) + k) / (1 + k), rel=1e-9)


@pytest.mark.parametrize("sampler", ["ddim", "dpm", "ancestral"])
def test_proximal_step_of_infinite_strength_returns_x_ue(prior_file, sampler):
    """Bit for bit: the last step ends at x0hat, and that is x_ue."""
    config = jcdp.Config(t_purify=36, steps=3, passes=2, sampler=sampler, acts_on="x0hat", guidance="pixel")
    x_ue, stream = 2 * images(4) - 1, Stream(0, list("abcd"), (3, 8, 8), "cpu")
    joint = jcdp.Joint(x_ue, SCHEDULE, [36, 24, 12], config.model_copy(update={"pixel_pull": float("inf")}), None)
    samplers = {"ddim": ddim(SCHEDULE, 1.0), "dpm": dpm(SCHEDULE), "ancestral": ancestral(SCHEDULE)}
    applied = joint.applied(denoiser(load_prior(prior_file)), no_noise)
    x_t = SCHEDULE.q_sample(x_ue, 36, stream(0, 0))
    result = reverse(x_t, [36, 24, 12], samplers[sampler], *applied, partial(stream, 0))
    if sampler == "ddim":
        assert torch.equal(result, x_ue)
    torch.testing.assert_close(result, x_ue, rtol=0, atol=1e-6)


def test_samplers_agree_with_the_proximal_step_as_steps_grow():
    """Moving x0hat has a limit in the steps: one for chains with noise, one for those without. 2M gets there first."""

    def signal(**chain):
        config = jcdp.Config(t_purify=100, passes=1, acts_on="x0hat", pixel_pull=0.1, guidance="pixel", **chain)
        return respond(config).signal

    for limit, others in (
        (signal(sampler="ancestral", steps=None), [{"sampler": "ddim", "eta": 1.0}, {"sampler": "ancestral"}]),
        (signal(sampler="dpm", steps=None), [{"sampler": "ddim", "eta": 0.0}, {"sampler": "dpm"}]),
    ):
        for chain in others:
            errors = [abs(signal(**chain, steps=steps) / limit - 1) for steps in (2, 10, 50)]
            assert errors[0] > errors[1] > errors[2] and errors[2] < 0.02
    of_ddim, of_dpm = (abs(signal(sampler=sampler, eta=0.0, steps=10) / limit - 1) for sampler in ("ddim", "dpm"))
    assert of_dpm < of_ddim / 5


@pytest.mark.parametrize("acts_on", ["mean", "x0hat"])
@pytest.mark.parametrize("sampler", ["ddim", "ancestral", "dpm"])
def test_residual_correlation(sampler, acts_on):
    """x_ue = x + delta, delta independent of x and the noise: rho is the signal.

    It grows with the pull, and falls with T_p and N.
    """
    chain = {"sampler": sampler, "steps": 4, "guidance": "pixel", "acts_on": acts_on}
    by_pull = [respond(jcdp.Config(**chain, t_purify=60, pixel_pull=p)).signal for p in (0, 0.01, 0.05, 0.2, 0.8)]
    assert by_pull == sorted(by_pull) and len(set(by_pull)) == 5
    for pull in (0.0, 0.05):
        by_t = [respond(jcdp.Config(**chain, t_purify=t, pixel_pull=pull)).signal for t in (10, 20, 36, 60, 100)]
        by_n = [respond(jcdp.Config(**chain, t_purify=60, passes=n, pixel_pull=pull)).signal for n in (1, 2, 4, 8)]
        assert by_t == sorted(by_t, reverse=True) and by_n == sorted(by_n, reverse=True)


def test_residual_correlation_on_images():
    """The same number measured: 64 Gaussian images of 192 values, delta of 8 levels, through the real noise."""
    config = jcdp.Config(t_purify=36, passes=2, steps=2, pixel_pull=0.1, guidance="pixel")
    generator = torch.Generator().manual_seed(0)
    x = S2**0.5 * torch.randn(64, 3, 8, 8, generator=generator)
    delta = (16 / 255) * torch.randn(64, 3, 8, 8, generator=generator).sign()
    x_ue, stream = x + delta, Stream(0, [str(i) for i in range(64)], (3, 8, 8), "cpu")
    times, x_le = timesteps(36, 2), x_ue
    guidance = guidance_of(x_ue, times, config)
    for n in range(2):
        x_t = SCHEDULE.q_sample(x_le, 36, stream(n, 0))
        x_le = reverse(x_t, times, ddim(SCHEDULE, 1.0), gaussian, guidance, partial(stream, n))
    rho = float(((x_le - x) * delta).sum() / delta.square().sum())
    # sd of rho: that of (x_le - x) per value (below .3) over |delta| = 16/255 and the root of 12288 values
    assert rho == pytest.approx(respond(config).signal, abs=4 * 0.3 / (16 / 255) / 12288**0.5)


# -- targets, and where guidance acts -----------------------------------------------------------------------


def test_split_has_pixels_above_and_features_below():
    config = jcdp.Config(t_purify=60, steps=4, guidance="split", split_t=30)
    assert jcdp.acting([60, 45, 30, 15], config) == ([60, 45], [30, 15])
    kappa, factor = jcdp.strengths(SCHEDULE, [60, 45, 30, 15], config, 192)
    assert set(kappa) == {60, 45} and set(factor) == {30, 15}
    assert sum(kappa.values()) == pytest.approx(config.pixel_pull)


@pytest.mark.parametrize(("t_purify", "split_t"), [(20, 11), (60, 33), (1, 0)])
def test_split_switches_where_the_released_code_does_in_proportion(t_purify, split_t):
    settled = jcdp.settle(jcdp.Config(t_purify=t_purify, steps=1, guidance="split"), Tools())
    assert settled.split_t == split_t
    assert jcdp.settle(jcdp.Config(t_purify=t_purify, steps=1), Tools()).split_t is None


def test_fresh_target_is_an_image_diffused_to_where_x_is():
    """signal² + noise² = 1; what has no noise left (the result of the last step) is held against x_ue itself."""
    x_ue, stream = 2 * images(2) - 1, Stream(0, ["a", "b"], (3, 8, 8), "cpu")
    joint = jcdp.Joint(x_ue, SCHEDULE, [36, 18], jcdp.Config(target="fresh", pixel_pull=1, guidance="pixel"), None)
    signal = float(SCHEDULE.alpha_bar(36)) ** 0.5
    drawn = joint.target(partial(stream, 1), signal, 36, 1)
    torch.testing.assert_close(drawn, SCHEDULE.q_sample(x_ue, 36, stream(1, 36, 1)))
    assert not torch.equal(drawn, joint.target(partial(stream, 1), signal, 36, 2))
    assert torch.equal(joint.target(no_noise, 1.0, 36, 1), x_ue)
    mean = jcdp.Joint(x_ue, SCHEDULE, [36, 18], jcdp.Config(guidance="pixel"), None)
    assert torch.equal(mean.target(no_noise, signal, 36, 1), signal * x_ue)


def test_perceptual_gradient_at_x_t():
    """Against h of the target at the same noise, at x_t itself: nothing is pulled where they agree."""
    x_ue, x0hat, guide = 2 * images(4) - 1, 2 * images(4, 2) - 1, RandomNet()
    config = jcdp.Config(guidance="perceptual", perceptual_at="x_t")
    shift, signal = guidance_of(x_ue, [36, 18], config, guide), float(SCHEDULE.alpha_bar(36)) ** 0.5
    assert torch.equal(shift(signal * x_ue, signal, x0hat, 36), torch.zeros_like(x_ue))
    x = x0hat
    gradient = perceptual_gradient(x, guide.embed(signal * x_ue), guide)
    cosine = torch.nn.functional.cosine_similarity(shift(x, signal, x_ue, 36).flatten(1), -gradient.flatten(1))
    torch.testing.assert_close(cosine, torch.ones(4))


# -- the strengths -----------------------------------------------------------------------------------------


def preset(name):
    fields = load_preset("purify", name)
    assert fields.pop("method") == "jcdp"
    assert all(jcdp.Config.model_fields[key].default != value for key, value in fields.items())
    return jcdp.Config(**fields)


KAPPA = {11: (7.0e-5, 0.035), 15: (1.1e-4, 0.055), 19: (1.6e-4, 0.079)}  # index: share of the gap at B = 500, at B = 1
LPIPS = {0: 0.0037, 5: 0.040, 10: 0.094}  # index: coefficient of the gradient at B = 500


def two(value):
    """To two digits, as in the table."""
    return f"{value:.1e}"


def test_reference_preset_has_the_released_strengths():
    """As tabulated for the released code, whose index is t - 1; above 10 it looks at pixels, from there on at LPIPS."""
    config = preset("jcdp-reference")
    times = timesteps(config.t_purify, config.steps)
    kappa, factor = jcdp.strengths(SCHEDULE, times, config, 3072)
    alone, _ = jcdp.strengths(SCHEDULE, times, config.model_copy(update={"released_batch": 1}), 3072)
    assert {t - 1 for t in kappa} == set(range(11, 20)) and {t - 1 for t in factor} == set(range(11))
    for index, (of_500, of_1) in KAPPA.items():
        assert (two(kappa[index + 1]), two(alone[index + 1])) == (two(of_500), two(of_1))
    for index, coefficient in LPIPS.items():
        assert two(config.perceptual_scale * factor[index + 1]) == two(coefficient)
    from_36, _ = jcdp.strengths(SCHEDULE, timesteps(36), config, 3072)
    assert (two(sum(kappa.values())), two(sum(from_36.values()))) == (two(1.0e-3), two(5.8e-3))  # of a pass


def test_reference_preset_is_the_released_code():
    config = preset("jcdp-reference")
    assert (config.t_purify, config.passes, config.steps, config.noise_above) == (20, 4, None, 1)
    assert (config.sampler, config.variance, config.guidance, config.split_t) == ("ancestral", "large", "split", 11)
    assert (config.pixel_pull, config.perceptual_scale, config.profile) == (1, 1, "released")
    assert (config.released_scale, config.released_batch, config.released_levels) == (70000, 500, 8)
    assert (config.target, config.perceptual_at, config.guide) == ("fresh", "x_t", "lpips-alex")


def test_paper_preset_is_algorithm_1_with_the_released_strengths():
    """Both terms at every step, noise-free targets, D_p at x0hat."""
    config = preset("jcdp-paper")
    times = timesteps(config.t_purify, config.steps)
    kappa, factor = jcdp.strengths(SCHEDULE, times, config, 3072)
    assert set(kappa) == set(factor) == set(times) == set(range(1, 21))
    assert kappa[12] == pytest.approx(7.0e-5, rel=0.04) and factor[11] == pytest.approx(0.094, rel=0.01)
    assert (config.target, config.perceptual_at, config.acts_on) == ("mean", "x0hat", "mean")


def test_unit_step_length():
    """gamma sigma_t sqrt(d), whatever the guide's own scale."""
    x_ue, x0hat = 2 * images(4) - 1, 2 * images(4, seed=2) - 1
    config = jcdp.Config(t_purify=36, steps=2, pixel_pull=0, perceptual_scale=0.1)
    shift = guidance_of(x_ue, [36, 18], config, RandomNet())(x0hat, 1.0, x0hat, 36)
    sigma = float(1 - SCHEDULE.alpha_bar(36) / SCHEDULE.alpha_bar(18)) ** 0.5
    torch.testing.assert_close(shift.flatten(1).norm(dim=1), torch.full((4,), 0.1 * sigma * 192**0.5))


def test_at_the_target_nothing_is_pulled():
    x_ue = 2 * images(2) - 1
    shift = guidance_of(x_ue, [36, 18], jcdp.Config(), RandomNet())(x_ue, 1.0, x_ue, 36)
    assert torch.equal(shift, torch.zeros_like(shift))


# -- signs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["unit", "raw"])
def test_small_strengths_move_towards_the_target(step):
    """Every image of 32, in each distance by its own term, at the point where it acts."""
    x_ue, x0hat, x_t = (2 * images(32, seed) - 1 for seed in (1, 2, 3))
    guide, a = RandomNet(), float(SCHEDULE.alpha_bar(36)) ** 0.5

    def d_p(x):
        return (guide.embed(x) - guide.embed(x_ue)).square().sum(1)

    def d_m(x):
        return (x - a * x_ue).square().sum((1, 2, 3)) / 2

    for guidance in ("pixel", "perceptual", "joint"):
        config = jcdp.Config(guidance=guidance, pixel_pull=0.05, perceptual_scale=0.05, perceptual_step=step)
        used = guide if guidance != "pixel" else None
        shift = guidance_of(x_ue, [36, 18], config, used)(x_t, a, x0hat, 36)
        if guidance != "perceptual":
            assert (d_m(x_t + shift) < d_m(x_t)).all()
        if guidance == "perceptual":
            assert (d_p(x0hat + shift) < d_p(x0hat)).all()


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_the_mean_of_a_step_moves_towards_the_target(sampler):
    """Through the sampler: guided and unguided mean of x_s, against x_ue at the signal of s, in both distances."""
    x_ue, x0hat = 2 * images(32, 1) - 1, 2 * images(32, 2) - 1
    step = ddim(SCHEDULE, 1.0) if sampler == "ddim" else ancestral(SCHEDULE)
    x_t = SCHEDULE.q_sample(x0hat, 36, torch.randn(x0hat.shape, generator=torch.Generator().manual_seed(3)))
    guide, signal = RandomNet(), float(SCHEDULE.alpha_bar(18)) ** 0.5
    plain, _ = step(x_t, x0hat, 36, 18, unguided)
    for guidance, used in (("pixel", None), ("perceptual", guide), ("joint", guide)):
        config = jcdp.Config(guidance=guidance, pixel_pull=0.02, perceptual_scale=0.02)
        guided, _ = step(x_t, x0hat, 36, 18, guidance_of(x_ue, [36, 18], config, used))
        if guidance != "perceptual":
            near, far = ((x - signal * x_ue).square().sum((1, 2, 3)) for x in (guided, plain))
            assert (near < far).all()
        if guidance != "pixel":
            near, far = ((guide.embed(x / signal) - guide.embed(x_ue)).square().sum(1) for x in (guided, plain))
            assert (near < far).float().mean() > 0.8 and near.mean() < far.mean()


def test_guided_results_are_nearer(prior_file):
    given = batch(16)
    free = build(prior_file, guidance="none")(given)
    guide = PriorFeatures(load_prior(prior_file), "")

    def d_p(x):
        return (guide.embed(2 * x - 1) - guide.embed(2 * given.x - 1)).square().sum(1).mean()

    pulled = build(prior_file, guidance="pixel", pixel_pull=0.1)(given)
    assert (pulled - given.x).square().mean() < (free - given.x).square().mean()
    looked = build(prior_file, guidance="perceptual", perceptual_scale=0.05)(given)
    assert d_p(looked) < d_p(free)


# -- invariances -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_without_strength_it_is_ddpm_to_the_bit(prior_file, sampler):
    chain = {"sampler": sampler, "t_purify": 12, "steps": 3, "precision": "float32"}
    given = batch()
    tools = Tools(weights={"prior": prior_file})
    plain = ddpm.build(DATA, ddpm.Config(**chain), tools)(given)
    assert torch.equal(build(prior_file, **chain, pixel_pull=0, perceptual_scale=0)(given), plain)
    assert torch.equal(build(prior_file, **chain, guidance="none")(given), plain)
    assert not torch.equal(build(prior_file, **chain)(given), plain)


def test_zero_strengths_shift_by_zero():
    """Also when the gradients are computed: the bits do not rest on a short cut."""
    x_ue, x = 2 * images(2) - 1, 2 * images(2, seed=2) - 1
    config = jcdp.Config(pixel_pull=0, perceptual_scale=0)
    shift = guidance_of(x_ue, [36, 18], config, RandomNet())(x, 1.0, x, 36)
    assert torch.equal(x + shift, x)


def test_shares_its_chain_with_ddpm():
    for name, field in ddpm.Config.model_fields.items():
        assert jcdp.Config.model_fields[name].default == field.default
        assert jcdp.Config.model_fields[name].annotation == field.annotation


@pytest.mark.parametrize("step", ["unit", "raw"])
def test_company_and_order_do_not_matter(prior_file, step):
    purify = build(prior_file, perceptual_step=step, pixel_pull=0.1, perceptual_scale=0.1)
    whole = batch()
    together = purify(whole)
    assert torch.equal(purify(whole), together)
    backwards = purify(rows(whole, reversed(range(6)))).flip(0)
    parts = torch.cat([purify(rows(whole, [0])), purify(rows(whole, [1, 2])), purify(rows(whole, [3, 4, 5]))])
    assert torch.equal(levels(backwards), levels(together))  # same compute batch
    assert (levels(parts) - levels(together)).abs().max() <= 1
    assert (levels(parts) != levels(together)).float().mean() <= 1e-3


def test_a_new_build_resumes(prior_file):
    whole = batch()
    first = build(prior_file)
    first(rows(whole, [0, 1]))
    assert torch.equal(first(rows(whole, [2, 3])), build(prior_file)(rows(whole, [2, 3])))


# -- contract ----------------------------------------------------------------------------------------------


def test_the_guide_is_noted(prior_file):
    for guidance, name in (("joint", "prior-features"), ("pixel", "none"), ("none", "none")):
        tools = Tools(weights={"prior": prior_file})
        jcdp.build(DATA, jcdp.Config(guidance=guidance), tools)
        assert tools.notes["perceptual_guide"]["name"] == name
        assert (tools.notes["perceptual_guide"]["sha256"] is None) == (name == "none")


def test_refusals(prior_file):
    with pytest.raises(ResourceError, match="prior"):
        jcdp.build(DATA, jcdp.Config(), Tools())
    with pytest.raises(UsageError, match="31 pixels"):
        build(prior_file, guide="lpips-alex")
    with pytest.raises(NonFiniteError):
        build(prior_file)(batch()._replace(x=torch.full((6, 3, 8, 8), torch.nan)))
    noisy = ({"target": "fresh"}, {"perceptual_at": "x_t"}, {"profile": "released"})
    wrong = ({"t_purify": 60, "steps": 61}, {"pixel_pull": -0.1}, {"perceptual_scale": "nan"}, {"guidance": "both"})
    for bad in (*wrong, *({"acts_on": "x0hat", **more} for more in noisy)):
        with pytest.raises(ValueError):
            jcdp.Config(**bad)


def test_the_manifest_has_no_path_of_the_weights():
    assert "weights" not in jcdp.Config(weights="/home/someone/alexnet.pth").model_dump(mode="json")


def test_inputs_are_left_alone(prior_file):
    given = batch()
    before = given.x.clone()
    x_le = build(prior_file)(given)
    assert torch.equal(given.x, before)
    assert x_le.dtype == torch.float32 and x_le.min() >= 0 and x_le.max() <= 1 and not x_le.requires_grad
