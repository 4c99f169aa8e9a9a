"""JCDP against its algorithm, transcribed; on data whose best denoiser is known; and its invariances."""

from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from ue_audit.config import load_preset
from ue_audit.diffusion.noise import Stream
from ue_audit.diffusion.prior import Prior, PriorConfig, load_prior
from ue_audit.diffusion.sampling import ancestral, ddim, reverse, timesteps, unguided
from ue_audit.diffusion.schedule import Schedule
from ue_audit.diffusion.unet import Config as Network
from ue_audit.diffusion.unet import UNet
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


@pytest.fixture(scope="module")
def prior_file(tmp_path_factory):
    """A random network of a few thousand parameters, none of them zero, trained on nothing."""
    torch.manual_seed(0)
    network = UNet(Network(channels=8, multipliers=(1, 2), attention=(), groups=4, dropout=0))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    path = tmp_path_factory.mktemp("prior") / "tiny.ckpt"
    path.write_bytes(Prior(network, PriorConfig(network=network.config, t_max=100), size=8).to_bytes())
    return path


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
    settings = {"t_purify": 7, "passes": 2, "steps": None, "sampler": "ancestral", "perceptual_step": "raw"}
    config = jcdp.Config(**settings, pixel_pull=0.3, perceptual_scale=2.0)
    purified = build(prior_file, seed=4, **config.model_dump(include={*settings, "pixel_pull", "perceptual_scale"}))
    given = batch(3)
    by_letter = []
    for row in range(3):
        stream = Stream(4, [given.keys[row]], (3, 8, 8), "cpu")
        by_letter.append(algorithm_1(load_prior(prior_file), 2 * given.x[row : row + 1] - 1, stream, config))
    result = purified(given)
    torch.testing.assert_close(result, torch.cat(by_letter), rtol=0, atol=2e-5)
    plain = build(prior_file, seed=4, **settings, guidance="none")(given)
    assert (result - plain).abs().max() > 1e-2  # the guidance was felt


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
    sampler = ddim(SCHEDULE, config.eta) if config.sampler == "ddim" else ancestral(SCHEDULE, config.variance)
    draws = {(n, t): row for row, (n, t) in enumerate([(n, t) for n in range(config.passes) for t in [0, *times]], 1)}
    x_ue = torch.zeros(len(draws) + 1, 1, 1, 1, dtype=torch.float64)
    x_ue[0] = 1

    def noise(n, t):
        impulse = torch.zeros_like(x_ue)
        impulse[draws[n, t]] = 1
        return impulse

    guidance = jcdp.joint_guidance(x_ue, SCHEDULE, times, config, None)
    x = x_ue
    for n in range(config.passes):
        x = SCHEDULE.q_sample(x, config.t_purify, noise(n, 0))
        x = reverse(x, times, sampler, gaussian, guidance, partial(noise, n))
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


@pytest.mark.parametrize("sampler", ["ddim", "ancestral"])
def test_residual_correlation(sampler):
    """x_ue = x + delta, delta independent of x and the noise: rho is the signal.

    It grows with the pull, and falls with T_p and N.
    """
    chain = {"sampler": sampler, "steps": 4, "guidance": "pixel"}
    by_pull = [respond(jcdp.Config(**chain, pixel_pull=p)).signal for p in (0, 0.01, 0.05, 0.2, 0.8)]
    assert by_pull == sorted(by_pull) and len(set(by_pull)) == 5
    for pull in (0.0, 0.05):
        by_t = [respond(jcdp.Config(**chain, t_purify=t, pixel_pull=pull)).signal for t in (10, 20, 36, 60, 100)]
        by_n = [respond(jcdp.Config(**chain, passes=n, pixel_pull=pull)).signal for n in (1, 2, 4, 8)]
        assert by_t == sorted(by_t, reverse=True) and by_n == sorted(by_n, reverse=True)


def test_residual_correlation_on_images():
    """The same number measured: 64 Gaussian images of 192 values, delta of 8 levels, through the real noise."""
    config = jcdp.Config(t_purify=36, passes=2, steps=2, pixel_pull=0.1, guidance="pixel")
    generator = torch.Generator().manual_seed(0)
    x = S2**0.5 * torch.randn(64, 3, 8, 8, generator=generator)
    delta = (16 / 255) * torch.randn(64, 3, 8, 8, generator=generator).sign()
    x_ue, stream = x + delta, Stream(0, [str(i) for i in range(64)], (3, 8, 8), "cpu")
    times, x_le = timesteps(36, 2), x_ue
    guidance = jcdp.joint_guidance(x_ue, SCHEDULE, times, config, None)
    for n in range(2):
        x_t = SCHEDULE.q_sample(x_le, 36, stream(n, 0))
        x_le = reverse(x_t, times, ddim(SCHEDULE, 1.0), gaussian, guidance, partial(stream, n))
    rho = float(((x_le - x) * delta).sum() / delta.square().sum())
    # sd of rho: that of (x_le - x) per value (below .3) over |delta| = 16/255 and the root of 12288 values
    assert rho == pytest.approx(respond(config).signal, abs=4 * 0.3 / (16 / 255) / 12288**0.5)


# -- the strengths -----------------------------------------------------------------------------------------


def test_paper_preset_has_the_released_strengths():
    """scale 70000 at batch 500, as tabulated for the released code (its index is t - 1)."""
    fields = load_preset("purify", "jcdp-paper")
    assert fields.pop("method") == "jcdp"
    config = jcdp.Config(**fields)
    sigma = {t: float(SCHEDULE.beta_at(t)) ** 0.5 for t in timesteps(config.t_purify, config.steps)}
    share = jcdp.shares(SCHEDULE, sigma, config.profile)
    for index, kappa in {11: 7.0e-5, 15: 1.1e-4, 19: 1.6e-4}.items():
        assert config.pixel_pull * share[index + 1] == pytest.approx(kappa, rel=0.04)
    for index, factor in {5: 0.040, 10: 0.094}.items():
        assert config.perceptual_scale * share[index + 1] == pytest.approx(factor, rel=0.01)


@pytest.mark.parametrize("profile", ["reference", "constant"])
def test_shares_sum_to_one(profile):
    share = jcdp.shares(SCHEDULE, {36: 0.1, 18: 0.1}, profile)
    assert sum(share.values()) == pytest.approx(1) and all(value > 0 for value in share.values())


def test_unit_step_length():
    """gamma sigma_t sqrt(d), whatever the guide's own scale."""
    x_ue, x0hat = 2 * images(4) - 1, 2 * images(4, seed=2) - 1
    config = jcdp.Config(t_purify=36, steps=2, pixel_pull=0, perceptual_scale=0.1)
    shift = jcdp.joint_guidance(x_ue, SCHEDULE, [36, 18], config, RandomNet())(x0hat, 1.0, x0hat, 36)
    sigma = float(1 - SCHEDULE.alpha_bar(36) / SCHEDULE.alpha_bar(18)) ** 0.5
    torch.testing.assert_close(shift.flatten(1).norm(dim=1), torch.full((4,), 0.1 * sigma * 192**0.5))


def test_at_the_target_nothing_is_pulled():
    x_ue = 2 * images(2) - 1
    shift = jcdp.joint_guidance(x_ue, SCHEDULE, [36, 18], jcdp.Config(), RandomNet())(x_ue, 1.0, x_ue, 36)
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
        shift = jcdp.joint_guidance(x_ue, SCHEDULE, [36, 18], config, used)(x_t, a, x0hat, 36)
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
        guided, _ = step(x_t, x0hat, 36, 18, jcdp.joint_guidance(x_ue, SCHEDULE, [36, 18], config, used))
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
    shift = jcdp.joint_guidance(x_ue, SCHEDULE, [36, 18], config, RandomNet())(x, 1.0, x, 36)
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
    for bad in ({"steps": 61}, {"pixel_pull": -0.1}, {"perceptual_scale": "nan"}, {"guidance": "split"}):
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
