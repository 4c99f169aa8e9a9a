"""The two-decoder autoencoder: the published network, its rate, and that an image is coded without its neighbours."""

import math

import pytest
import torch

from ue_audit.training import vae

QUICK = {"width": 4, "blocks": 1, "latent": 6, "norm": "none"}
SHAPE = vae.Shape(**QUICK)


def network(shape=SHAPE, classes=3, size=8):
    return vae.build(shape, classes, size, seed=1).eval()


def images(n=4, size=8):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(2))


def test_the_published_network():
    """A stem, two blocks of 64, one of 128 at half the side, 2 x 256 moments; 128-64-64-32-3 decoders, 128 K (S/2)²."""
    norm = 2
    stem = 64 * (27 + norm)
    blocks = 4 * 64 * (64 * 9 + norm) + 128 * (64 * 9 + norm + 128 * 9 + norm + 64 + norm)
    moments, widen = (128 + 1) * 512, (256 + 1) * 128
    decoder = 64 * (128 * 16 + 1) + 64 * (64 * 9 + 1) + 32 * (64 * 9 + 1) + 3 * (32 * 9 + 1)
    made = vae.build(vae.Shape(), classes=10, size=32, seed=0)
    assert sum(p.numel() for p in made.parameters()) == (
        stem + blocks + moments + widen + 2 * decoder + 10 * 128 * 16 * 16
    )


@pytest.mark.parametrize("norm", ["instance", "none"])
@pytest.mark.parametrize("size", [8, 11])
def test_shapes_of_any_size(norm, size):
    coded = network(SHAPE.model_copy(update={"norm": norm}), size=size)(images(4, size), torch.arange(4) % 3, None)
    assert coded.image.shape == coded.perturbation.shape == (4, 3, size, size) and coded.rate.shape == (4,)
    assert coded.image.min() >= 0 and coded.image.max() <= 1


def test_the_rate_is_the_divergence_of_the_code():
    """With constant moments mu and s of one number, KL = (mu^2 + s^2 - 1) / 2 - ln s, at every place."""
    made, mu, s = network(SHAPE.model_copy(update={"latent": 1})), 0.7, 0.2
    with torch.no_grad():
        made.moments.weight.zero_()
        made.moments.bias.copy_(torch.tensor([mu, 2 * math.log(s)]))
    rate = made(images(), torch.zeros(4, dtype=torch.int64), None).rate
    torch.testing.assert_close(rate, torch.full((4,), (mu**2 + s**2 - 1) / 2 - math.log(s)))


def test_noise_spreads_the_code():
    """No noise is the mean; noise of s = 0 changes nothing."""
    made, x, y = network(), images(), torch.arange(4) % 3
    noise = torch.randn(4, *vae.code_shape(SHAPE, 8), generator=torch.Generator().manual_seed(3))
    mean = made(x, y, None)
    assert not torch.equal(made(x, y, noise).image, mean.image)
    assert torch.equal(made(x, y, 0 * noise).image, mean.image)
    with torch.no_grad():
        made.moments.bias[SHAPE.latent :] = -100.0
        made.moments.weight[SHAPE.latent :] = 0.0
    torch.testing.assert_close(made(x, y, noise).image, made(x, y, None).image)


def test_the_class_moves_the_perturbation_alone():
    made, x = network(), images()
    one, other = (made(x, torch.full((4,), k), None) for k in (0, 2))
    assert torch.equal(one.image, other.image) and not torch.equal(one.perturbation, other.perturbation)


@pytest.mark.parametrize("norm", ["instance", "none"])
def test_neighbours_do_not_matter(norm):
    made, x, y = network(SHAPE.model_copy(update={"norm": norm})), images(), torch.arange(4) % 3
    alone = torch.cat([made(x[i : i + 1], y[i : i + 1], None).image for i in range(4)])
    torch.testing.assert_close(made(x, y, None).image, alone, rtol=0, atol=1e-5)


def test_equal_seeds_give_equal_weights():
    first, second, other = (vae.build(SHAPE, 3, 8, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["moments.weight"], other["moments.weight"])
