"""fit: a prior learns, resumes exactly, averages and stops as its settings say."""

import numpy as np
import pytest
import torch
from waves import TINY, Killed, MortalTools, Waves, with_fields

from ue_audit.diffusion import fit, unet
from ue_audit.diffusion.prior import PriorConfig, train
from ue_audit.errors import NonFiniteError, UsageError
from ue_audit.tools import Tools


def test_it_learns_to_denoise():
    config = with_fields(TINY, steps=60, check_every=60, lr=1e-2, muon_lr=0.1)
    prior = train(Waves(), config, Tools())
    # unaided, x_t / sqrt(alpha_bar) has the error sigma in [-1,1]: PSNR -20 log10(sigma / 2)
    noisy = -20 * np.log10(float(prior.schedule.sigma(37)) / 2)
    assert prior.figures["0.13"] > noisy + 1.2


@pytest.mark.parametrize("fields", [{}, {"optimizer": "adam", "decay": "none"}])
@pytest.mark.parametrize("killed_at", [1, 4, 7, 11])
def test_a_killed_training_resumes_exactly(tmp_path, fields, killed_at):
    config = with_fields(TINY, network={**TINY.network.model_dump(), "dropout": 0.2}, **fields)
    unbroken = train(Waves(), config, Tools()).to_bytes()
    with pytest.raises(Killed):
        train(Waves(), config, MortalTools(after=killed_at, work=tmp_path))
    assert train(Waves(), config, Tools(work=tmp_path)).to_bytes() == unbroken


def test_the_seed_decides(prior):
    torch.manual_seed(12345)
    before = torch.random.get_rng_state()
    assert train(Waves(), TINY, Tools()).to_bytes() == prior.to_bytes()
    assert torch.equal(torch.random.get_rng_state(), before)  # nothing global was drawn from
    assert train(Waves(), TINY, Tools(seed=1)).to_bytes() != prior.to_bytes()


def test_average_forgets_its_start_as_the_formula_says():
    # before the ramp ends the half-life is ramp * batch * step: what is left of the start after n steps
    # is 0.5 ** (1/ramp * (1 + 1/2 + .. + 1/n)); with a constant 0.9999 it would be .905 after 1,000
    ramped = PriorConfig(batch=32)
    left = np.prod([fit.ema_decay(ramped, step) for step in range(1, 1001)])
    assert left == pytest.approx(0.5 ** (20 * sum(1 / n for n in range(1, 1001))))
    constant = PriorConfig(batch=32, ema_half_life=32 * np.log(0.5) / np.log(0.9999), ema_ramp=1e9)
    assert np.prod([fit.ema_decay(constant, s) for s in range(1, 1001)]) == pytest.approx(0.905, abs=1e-3)


def test_rate_rises_then_falls():
    config = PriorConfig(steps=100, warmup=10)
    rates = [fit.rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[99] < 0.001
    assert rates[50] == pytest.approx(0.5)
    assert fit.rate(with_fields(config, decay="none"), 99) == 1


def test_patience_ends_a_training_that_no_longer_gains():
    tools = Tools()
    config = with_fields(TINY, lr=1e-12, muon_lr=1e-12, steps=100, check_every=2, patience=3)
    train(Waves(), config, tools)
    assert tools.notes["steps"] == 2 * (1 + 3) and tools.notes["stopped_early"]


def test_the_best_average_is_returned(prior):
    tools = Tools()
    best = train(Waves(), with_fields(TINY, muon_lr=0.5, lr=0.1, decay="none"), tools)
    means = [np.mean([value for key, value in point.items() if key != "step"]) for point in tools.notes["curve"]]
    assert np.mean(list(best.figures.values())) == pytest.approx(max(means))


def test_fine_tuning_starts_from_the_prior_and_keeps_its_network(prior):
    config = with_fields(TINY, network=unet.Config(), T=50, t_max=50, lr=1e-12, muon_lr=1e-12, steps=4)
    tuned = train(Waves(), config, Tools(seed=3), start=prior)
    assert tuned.config.network == TINY.network and tuned.config.T == 1000 and tuned.t_max == 50
    for a, b in zip(tuned.network.parameters(), prior.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_a_loss_that_is_no_number_stops():
    data = Waves()
    data.x = data.x * torch.nan
    with pytest.raises(NonFiniteError, match="step"):
        train(data, TINY, Tools())


def test_one_image_is_too_few():
    with pytest.raises(UsageError, match="at least 2"):
        train(Waves(1), TINY, Tools())


def test_a_prior_for_few_timesteps_is_judged_where_it_is_trained():
    assert list(train(Waves(), with_fields(TINY, t_max=25), Tools()).figures) == ["0.05", "0.08"]
    assert len(train(Waves(), with_fields(TINY, t_max=5), Tools()).figures) == 1
