import math

import pytest
import torch

from ue_audit.imagedata import to_uint8
from ue_audit.purifiers import gaussian_blur
from ue_audit.tools import Batch, Tools


def purified(x, **settings):
    purify = gaussian_blur.build(None, gaussian_blur.Config(**settings), Tools())
    return purify(Batch(x, None, torch.arange(len(x)), ["a.png"] * len(x)))


def noise(size=16):
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)).mul(255).round().div(255)


@pytest.mark.parametrize("sigma", [0.5, 0.7, 1.3])
def test_an_impulse_becomes_the_gaussian(sigma):
    x = torch.zeros(1, 3, 25, 25)
    x[:, :, 12, 12] = 1
    reach = math.ceil(4 * sigma)
    one = [math.exp(-((i - 12) ** 2) / (2 * sigma**2)) if abs(i - 12) <= reach else 0.0 for i in range(25)]
    gaussian = torch.tensor([[a * b for b in one] for a in one]) / sum(one) ** 2
    torch.testing.assert_close(purified(x, sigma=sigma)[0, 1], gaussian, rtol=1e-5, atol=1e-9)


def test_flat_images_and_their_edges_stay():
    flat = torch.full((1, 3, 9, 9), 77 / 255)
    torch.testing.assert_close(purified(flat, sigma=3.0), flat)


def test_the_reference_setting_is_the_identity():
    """Sigma 0.1: the weight of a neighbour is exp(-50) = 2e-22."""
    assert gaussian_blur.kernel(0.1) == pytest.approx([0, 1, 0], abs=1e-21)
    torch.testing.assert_close(purified(noise(), sigma=0.1), noise(), rtol=0, atol=1e-20)


def test_up_to_a_quarter_nothing_changes_in_8_bits():
    """All neighbours together weigh below 4 exp(-8) = 1.4e-3, a third of a level."""
    assert (to_uint8(purified(noise(), sigma=0.25)) == to_uint8(noise())).all()


def test_the_default_blurs():
    """Noise keeps (sum of squared weights) of its variance: 1/(4 pi sigma²) = 0.16 for wide kernels."""
    x = noise(64)
    share = float(purified(x)[..., 4:-4, 4:-4].var() / x.var())
    assert share == pytest.approx(sum(w**2 for w in gaussian_blur.kernel(0.7)) ** 2, rel=0.05)
    assert share == pytest.approx(1 / (4 * math.pi * 0.7**2), rel=0.1)


def test_a_kernel_wider_than_the_image():
    assert purified(noise(), sigma=16.0).std() < 0.1


def test_refusals():
    with pytest.raises(ValueError):
        gaussian_blur.Config(sigma=0)
