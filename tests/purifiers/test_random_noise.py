import pytest
import torch

from ue_audit.config import load_preset
from ue_audit.purifiers import random_noise
from ue_audit.tools import Batch, Tools

GREY = Batch(torch.full((8, 3, 32, 32), 0.5), None, torch.arange(8), [f"{i}.png" for i in range(8)])


def added(seed=0, given=GREY, **settings):
    purify = random_noise.build(None, random_noise.Config(**settings), Tools(seed=seed))
    return purify(given) - given.x


def test_gaussian_has_its_std_and_no_mean():
    """24,576 draws: the mean's standard error is 0.05 / 157, that of the std 0.05 / 222."""
    noise = added()
    assert abs(float(noise.mean())) < 4 * 0.05 / 157
    assert float(noise.std()) == pytest.approx(0.05, abs=4 * 0.05 / 222)
    assert float(noise.abs().max()) > 3 * 0.05


def test_uniform_fills_its_interval_evenly():
    """Each tenth of the interval has 2,458 of the draws, give or take 47."""
    noise = added(distribution="uniform") / (8 / 255)
    assert float(noise.abs().max()) <= 1 + 1e-5
    counts = torch.histc(noise, 10, -1, 1)
    assert (counts - 2457.6).abs().max() < 4 * 47


def test_every_image_has_its_own():
    noise = added().flatten(1)
    assert float(torch.corrcoef(noise).fill_diagonal_(0).abs().max()) < 5 / 3072**0.5
    assert not torch.equal(added(seed=1), added())
    renamed = added(given=GREY._replace(keys=[*GREY.keys[:7], "else.png"]))
    assert torch.equal(renamed[:7], added()[:7]) and not torch.equal(renamed[7], added()[7])


def test_white_stays_white_at_most():
    white = GREY._replace(x=torch.ones_like(GREY.x))
    assert float(added(given=white).max()) <= 0


def test_preset_of_the_uniform_one():
    fields = load_preset("purify", "random-noise-uniform")
    assert fields == {"method": "random_noise", "distribution": "uniform"}
