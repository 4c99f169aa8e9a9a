"""The generator of maps: sizes, bounds, the learning rate, and the same map after a kill."""

import pytest
import torch
from torch import nn

from ue_audit.tools import Tools
from ue_audit.training import generator

QUICK = {"width": 4, "blocks": 1, "lr": 1e-2}


def towards(goal):
    """Half the squared distance of a map from `goal`, and its gradient."""
    return lambda d, step: (float((d - goal).square().sum() / 2), d - goal)


def learn(size=8, steps=40, pull=None, tools=None, **more):
    goal = torch.where(torch.arange(size) % 4 < 2, 0.05, -0.05).expand(1, 3, size, size)
    config = generator.Making(**QUICK | more)
    return goal, generator.learn(0, size, pull or towards(goal), steps, config, tools or Tools(seed=1))


@pytest.mark.parametrize("bound", ["tanh", "clip"])
def test_learns_what_it_is_pulled_to_within_the_bound(bound):
    goal, d = learn(eps=8 / 255, bound=bound, steps=80)
    assert d.shape == (1, 3, 8, 8) and not d.requires_grad
    assert float(d.abs().max()) <= float(torch.tensor(8 / 255))
    assert float((d.sign() == goal.sign()).float().mean()) > 0.95


def test_the_two_bounds():
    raw = torch.tensor([-9.0, -0.01, 0.0, 0.01, 9.0])
    smooth = generator.bounded(raw, generator.Making(eps=0.1))
    torch.testing.assert_close(smooth, torch.tensor([-0.1, -0.001, 0.0, 0.001, 0.1]), atol=1e-6, rtol=1e-3)
    clipped = generator.bounded(raw, generator.Making(eps=0.1, bound="clip"))
    torch.testing.assert_close(clipped, torch.tensor([-0.1, -0.01, 0.0, 0.01, 0.1]), atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize(("size", "side"), [(1, 8), (8, 8), (9, 12), (32, 32), (33, 36), (224, 224)])
def test_any_size_is_worked_at_a_multiple_of_four(size, side):
    assert generator.side_for(size) == side


def test_odd_sizes_are_cut_off():
    assert learn(size=11, steps=1)[1].shape == (1, 3, 11, 11)


def test_the_published_network():
    """64 wide, 6 blocks: 7x7 3-64, 64-128-256 down, 12 of 256-256, up again, 7x7 64-3, and 2 numbers a norm."""
    ends, down, residual, up = 2 * 3 * 64 * 49, (64 + 256) * 128 * 9, 12 * 256 * 256 * 9, (256 + 64) * 128 * 9
    biases = 64 + 128 + 256 + 12 * 256 + 128 + 64 + 3
    norms = 2 * (64 + 128 + 256 + 12 * 256 + 128 + 64)
    network = generator.build(64, 6, 0)
    assert sum(p.numel() for p in network.parameters()) == ends + down + residual + up + biases + norms
    assert network(torch.rand(1, 3, 16, 16)).shape == (1, 3, 16, 16)


def test_its_norms_are_batch_norms_in_training_mode_on_a_batch_of_one():
    x = torch.rand(1, 5, 6, 6)
    torch.testing.assert_close(nn.InstanceNorm2d(5, affine=True)(x), nn.BatchNorm2d(5).train()(x))


def test_the_rate_falls_along_half_a_cosine():
    assert generator.rate(0, 100, 1e-4) == pytest.approx(1e-4)
    assert generator.rate(50, 100, 1e-4) == pytest.approx((1e-4 + 1e-6) / 2)
    assert generator.rate(100, 100, 1e-4) == pytest.approx(1e-6)


def test_weights_are_drawn_from_the_seed_alone():
    first = generator.build(4, 1, 7).state_dict()
    torch.manual_seed(5)
    assert all(torch.equal(first[name], value) for name, value in generator.build(4, 1, 7).state_dict().items())


def test_a_killed_training_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(generator, "SAVE_SECONDS", 0.0)
    goal, expected = learn()

    def dies(d, step):
        if step == 23:
            raise KeyboardInterrupt
        return towards(goal)(d, step)

    with pytest.raises(KeyboardInterrupt):
        learn(pull=dies, tools=Tools(seed=1, work=tmp_path))
    assert Tools(work=tmp_path).restore("map")["step"] == 23
    assert torch.equal(learn(tools=Tools(seed=1, work=tmp_path))[1], expected)
