"""The networks: weights counted by hand, any size, seeds."""

from typing import get_args

import pytest
import torch

from ue_audit.errors import UsageError
from ue_audit.training import backbones


def weights(model):
    return sum(p.numel() for p in model.parameters())


def test_resnet18_has_the_weights_of_the_cifar_resnet18():
    # stem 3*64*9 + 128; stage of two basic blocks, width w from v: 9vw + 3*9ww + 8w, and a shortcut vw + 2w when v != w
    stages = [9 * v * w + 27 * w * w + 8 * w + (v * w + 2 * w if v != w else 0)
              for v, w in ((64, 64), (64, 128), (128, 256), (256, 512))]  # fmt: skip
    assert 3 * 64 * 9 + 128 + sum(stages) + 512 * 10 + 10 == 11_173_962
    assert weights(backbones.build("resnet18", 10, 0)) == 11_173_962


def test_thin_has_half_the_width_of_small():
    # 1x1 unit 48w + 2w, 3x3 units 9vw + 2w, at widths w = 16, 32, 64, and a linear layer
    due = 48 * 16 + 2 * 16 + sum(9 * v * w + 2 * w for v, w in ((16, 16), (16, 32), (32, 32), (32, 64), (64, 64)))
    assert weights(backbones.build("thin", 4, 0)) == due + 65 * 4


@pytest.mark.parametrize("name", sorted(backbones.BACKBONES))
@pytest.mark.parametrize("size", [28, 33])
def test_every_network_takes_any_size(name, size):
    model = backbones.build(name, 3, 0).eval()
    with torch.no_grad():
        assert model(torch.rand(2, 3, size, size)).shape == (2, 3)


def test_equal_seeds_give_equal_weights_and_leave_the_global_stream_alone():
    before = torch.get_rng_state()
    a, b, c = (torch.cat([p.flatten() for p in backbones.build("small", 4, s).parameters()]) for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_learner_may_name_every_network_but_the_one_to_craft_with():
    assert {*get_args(backbones.Backbone), "small-fine"} == set(backbones.BACKBONES)


@pytest.mark.parametrize("name", sorted(backbones.BACKBONES))
def test_a_headless_network_is_what_its_last_layer_read(name):
    network, twin = (backbones.build(name, 3, 0).eval() for _ in range(2))
    *_, last = (m for m in twin.modules() if isinstance(m, torch.nn.Linear))
    torch.nn.init.normal_(last.weight)  # that of `vit` starts at zero
    body, width = backbones.headless(network)
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        h = body(x)
        torch.testing.assert_close(last(h), twin(x))
    assert h.shape == (2, width)


def test_an_unknown_network_is_a_usage_error():
    with pytest.raises(UsageError, match="resnet19"):
        backbones.build("resnet19", 10, 0)


def test_the_cosine_bank_is_an_orthonormal_basis_that_starts_with_brightness():
    bank = backbones.cosines(4).flatten(1)
    assert torch.allclose(bank @ bank.T, torch.eye(48), atol=1e-6)
    assert torch.allclose(bank[0], torch.full((48,), 48**-0.5), atol=1e-6)


def test_the_spectrum_scales_variance_v_to_v_over_v_plus_floor_squared_while_training():
    x = torch.rand(64, 3, 16, 16, generator=torch.Generator().manual_seed(0)) / 4
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), mode="reflect")
    v = torch.nn.functional.conv2d(padded, backbones.cosines(4), stride=2).var((0, 2, 3), correction=0)
    out = backbones.Spectrum(backbones.FLOOR).train()(x)
    assert out.shape == (64, 48, 8, 8)
    assert torch.allclose(out.var((0, 2, 3), correction=0), v / (v + backbones.FLOOR**2), atol=1e-4)
    assert torch.allclose(out.mean((0, 2, 3)), torch.zeros(48), atol=1e-3)


def test_activations_in_place_change_no_bit() -> None:
    """Outputs, and gradients by weights and by pixels, are those of a net that keeps what its activations read."""
    x = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = []
    for in_place in (True, False):
        network = backbones.build("small", 4, 0)
        for part in network.modules():
            if isinstance(part, torch.nn.ReLU):
                assert part.inplace
                part.inplace = in_place
        pixels = x.clone().requires_grad_()
        logits = network(pixels)
        logits.square().sum().backward()
        found.append([logits, pixels.grad, *(weight.grad for weight in network.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
