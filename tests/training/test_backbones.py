"""The networks: weights counted by hand, any size, seeds."""

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


def test_an_unknown_network_is_a_usage_error():
    with pytest.raises(UsageError, match="resnet19"):
        backbones.build("resnet19", 10, 0)
