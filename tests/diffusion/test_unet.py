"""What every network of the family promises; `test_dialects` holds them against those of other code."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from ue_audit.diffusion.unet import DDPM_CIFAR, Config, UNet, check_shapes, pad_to, sinusoid
from ue_audit.errors import IntegrityError, UsageError

SMALL = Config(channels=16, multipliers=(1, 2), blocks=1, unshuffle=2, groups=8, dropout=0)


def random_network(config: Config, seed: int = 0) -> UNet:
    """A network none of whose weights is zero, as after training."""
    torch.manual_seed(seed)
    network = UNet(config).eval().requires_grad_(False)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.05)
    return network


def test_the_ddpm_network_has_35_746_307_parameters():
    with torch.device("meta"):
        assert sum(weight.numel() for weight in UNet(DDPM_CIFAR).parameters()) == 35_746_307


def test_weights_that_do_not_fit_are_named():
    shapes = {key: tuple(value.shape) for key, value in random_network(SMALL).state_dict().items()}
    shapes["conv_in.weight"] = (1, 2)
    shapes["conv_on.weight"] = shapes.pop("conv_out.weight")
    with pytest.raises(IntegrityError) as caught:
        check_shapes(shapes, SMALL, "it")
    assert caught.value.details == (
        "conv_in.weight: expected shape (16, 12, 3, 3), found (1, 2)",
        "conv_on.weight: unknown",
        "conv_out.weight: missing",
    )


FAMILY = [
    SMALL,
    Config(channels=8, multipliers=(1,), blocks=1, attention=(), middle_attention=False, groups=1),
    Config(channels=16, multipliers=(1, 2, 4), blocks=2, attention=(0, 2), groups=4, unshuffle=1),
    Config(channels=16, multipliers=(2, 1), blocks=2, attention=(), groups=16, unshuffle=4, norm="none"),
]


@pytest.mark.parametrize("config", FAMILY)
@pytest.mark.parametrize("size", [(32, 32), (8, 8), (33, 47), (30, 9)])
def test_any_size_works(config, size):
    network = random_network(config)
    x_t = torch.randn(2, 3, *size)
    pred_noise = network(x_t, torch.tensor([1, 80]))
    assert pred_noise.shape == x_t.shape and pred_noise.dtype == torch.float32 and pred_noise.isfinite().all()
    finest = network.features(x_t, torch.tensor([1, 80]))
    assert len(finest) == len(config.multipliers)
    assert [h.shape[1] for h in finest] == config.widths


@pytest.mark.parametrize("config", FAMILY)
def test_an_image_does_not_see_its_batch(config):
    network = random_network(config)
    x_t, t = torch.randn(3, 3, 16, 16), torch.tensor([1, 20, 80])
    together = network(x_t, t)
    for row in range(3):
        torch.testing.assert_close(together[row], network(x_t[row : row + 1], t[row : row + 1])[0])


def test_the_timestep_matters():
    network = random_network(SMALL)
    x_t = torch.randn(1, 3, 16, 16)
    assert not torch.allclose(network(x_t, torch.tensor([1])), network(x_t, torch.tensor([80])))


def test_an_untrained_network_predicts_no_noise():
    assert not UNet(SMALL)(torch.randn(1, 3, 16, 16), torch.tensor([5])).any()


def test_sinusoid_by_hand():
    # width 4: half = 2, frequencies exp(-ln(10000) * 0) = 1 and exp(-ln(10000) * 1) = 1e-4; sines first
    expected = [[math.sin(3), math.sin(3e-4), math.cos(3), math.cos(3e-4)]]
    torch.testing.assert_close(sinusoid(torch.tensor([3]), 4), torch.tensor(expected))


@pytest.mark.parametrize("size", [(32, 32), (31, 17), (8, 9)])
def test_padding_is_undone(size):
    x = torch.randn(1, 3, *size)
    padded, crop = pad_to(x, 8)
    assert padded.shape[-2] % 8 == padded.shape[-1] % 8 == 0
    assert torch.equal(padded[crop], x)


def test_padding_reflects():
    x = torch.arange(6.0).reshape(1, 1, 1, 6).expand(1, 1, 6, 6)
    assert pad_to(x, 4)[0][0, 0, 0].tolist() == [1, 0, 1, 2, 3, 4, 5, 4]


def test_too_small_to_pad():
    with pytest.raises(UsageError, match="3x3 are too small"):
        pad_to(torch.zeros(1, 3, 3, 3), 16)


@pytest.mark.parametrize(
    "fields",
    [
        {"channels": 100},  # no multiple of 32 groups
        {"multipliers": ()},
        {"multipliers": (1, 99)},
        {"attention": (4,)},
        {"unshuffle": 0},
        {"dropout": 1},
        {"chanels": 64},
    ],
)
def test_configurations_that_are_refused(fields):
    with pytest.raises(ValidationError):
        Config(**fields)
