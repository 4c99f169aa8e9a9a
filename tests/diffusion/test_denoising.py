"""Where a pass starts: t from the budget, within the prior, as the manifest will have it."""

import pytest
import torch

from ue_audit.config import show_fraction
from ue_audit.diffusion import denoising
from ue_audit.diffusion.denoising import ASSUMED_EPS, Config
from ue_audit.diffusion.prior import Prior, PriorConfig
from ue_audit.diffusion.schedule import Schedule
from ue_audit.diffusion.unet import Config as Network
from ue_audit.diffusion.unet import UNet
from ue_audit.errors import ResourceError, UsageError
from ue_audit.tools import Tools
from ue_audit.training.cost import FORWARD

LINEAR = Schedule.linear()


@pytest.fixture(scope="module")
def prior_file(tmp_path_factory):
    torch.manual_seed(0)
    network = UNet(Network(channels=8, multipliers=(1,), attention=(), groups=4, dropout=0))
    path = tmp_path_factory.mktemp("prior") / "tiny.ckpt"
    path.write_bytes(Prior(network, PriorConfig(network=network.config, t_max=80), size=8).to_bytes())
    return path


def settle(prior_file, eps=None, **settings):
    tools = Tools(weights={"prior": prior_file}, eps=eps)
    return denoising.settle(Config(**settings), tools), tools


@pytest.mark.parametrize(("levels", "t"), [(8, 60), (4, 28), (2, 12), (16, 121)])
def test_t_is_the_last_whose_noise_is_within_the_ratio(levels, t):
    """Noise of t in levels of 255 is 127.5 sigma(t)."""
    assert denoising.t_for(LINEAR, levels / 255, 3.3) == t
    assert 127.5 * float(LINEAR.sigma(t)) <= 3.3 * levels < 127.5 * float(LINEAR.sigma(t + 1))


def test_the_ratio_of_the_literature_gives_its_t():
    assert denoising.t_for(LINEAR, 8 / 255, 1.3) == 21  # index 20 of the released code
    assert denoising.t_for(LINEAR, 1e-9, 3.3) == 1


def test_settled_by_the_budget(prior_file):
    for eps, t, assumed in ((8 / 255, 60, False), (None, 60, True), (4 / 255, 28, False)):
        config, tools = settle(prior_file, eps)
        assert config.t_purify == t
        assert tools.notes == {"eps": {"value": "4/255" if t == 28 else "8/255", "assumed": assumed}}
        assert denoising.settle(config, Tools()) is config  # settled once


def test_what_the_owner_names_stays(prior_file):
    config, tools = settle(prior_file, 4 / 255, t_purify=33)
    assert config.t_purify == 33 and tools.notes == {}
    assert denoising.follows_eps(Config()) and not denoising.follows_eps(config)


def test_the_end_of_the_prior_is_the_limit_and_said(prior_file):
    config, tools = settle(prior_file, 16 / 255)
    assert config.t_purify == 80
    [warning] = tools.notes["warnings"]
    assert "t = 80" in warning and "16/255" in warning and "t_max=121" in warning


def test_steps_and_t(prior_file):
    assert settle(prior_file, 0.1 / 255, steps=5)[0].t_purify == 5  # at least the steps asked for
    with pytest.raises(UsageError, match="at most 80 steps"):
        settle(prior_file, steps=100)
    with pytest.raises(ResourceError, match="prior"):
        denoising.settle(Config(), Tools())


def test_cost():
    assert denoising.passes(Config(passes=3, steps=4), 10) == pytest.approx(12 * FORWARD)
    assert denoising.passes(Config(passes=1, steps=None), 10) == pytest.approx(60 * FORWARD)
    assert denoising.passes(Config(passes=1, steps=None, t_purify=7), 10) == pytest.approx(7 * FORWARD)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpm"])
def test_a_chain_begins_at_t(prior_file, sampler):
    config, tools = settle(prior_file, sampler=sampler, steps=3, spacing="log-snr")
    chain = denoising.begin(config, tools)
    assert chain.times[0] == 60 and chain.times[-1] == 1 and len(chain.times) == 3
    x = torch.zeros(1, 3, 8, 8)
    mean, _ = chain.sampler(x, chain.denoise(x, 60), 60, chain.times[1], lambda *_: 0.0)
    assert mean.shape == x.shape


def test_the_assumed_budget_is_that_of_most_protections():
    assert show_fraction(ASSUMED_EPS) == "8/255"
