"""The surrogate: what is held out, what is kept, the floor, and an exact resume. Toy classes differ in brightness."""

import pytest
import torch
from toy import Toy

from ue_audit.errors import UsageError
from ue_audit.tools import Tools
from ue_audit.training import fit, surrogate

QUICK = {"epochs": 4, "min_surrogate_steps": 0, "batch": 16, "lr": 0.05, "held_out": 0.2, "min_accuracy": 0.0}


def config(**more):
    return surrogate.Training(**QUICK | more)


def train(data, tools=None, checkpoints=1, **more):
    chosen = config(**more)
    tools = tools or Tools(seed=5)
    return surrogate.train(data, data.labels, chosen, tools, surrogate.cropped(chosen), checkpoints)


def weights(network):
    return torch.cat([part.flatten().double() for part in network.state_dict().values()])


def test_a_share_of_every_class_is_held_out_and_none_of_a_class_too_small():
    data = Toy(each=16)
    data.labels = torch.tensor([0] * 30 + [1] * 14 + [2] * 4)  # a fifth of 4, rounded down, is none
    rows, held_out = surrogate.split(data, data.labels, 0.2, Tools(seed=5))
    assert [(data.labels[held_out] == k).sum().item() for k in range(3)] == [6, 2, 0]
    assert sorted(torch.cat([rows, held_out]).tolist()) == list(range(48))


def test_weights_do_not_depend_on_the_order_of_files_and_do_on_the_seed():
    shuffled = torch.randperm(48, generator=torch.Generator().manual_seed(1))
    one, again = (train(data)[0] for data in (Toy(), Toy(order=shuffled)))
    assert torch.equal(weights(one), weights(again))
    assert not torch.equal(weights(one), weights(train(Toy(), Tools(seed=6))[0]))


def test_networks_are_frozen_and_their_features_lead_to_their_logits():
    (network,) = train(Toy())
    assert not network.training and not any(part.requires_grad for part in network.parameters())
    x = Toy().x
    assert torch.allclose(network[-1](surrogate.features_of(network, x)), network(x), atol=1e-5)


def test_checkpoints_are_evenly_spaced_and_the_last_is_the_finished_network():
    # 39 images in batches of 16: 2 steps a pass, 8 in all; three marks at ceil(8/3), ceil(16/3), 8
    data, kept = Toy(), {}
    networks = train(data, checkpoints=3)
    for mark in (3, 6):
        kept[mark] = stopped_after(mark, data)
    assert torch.equal(weights(networks[0]), kept[3]) and torch.equal(weights(networks[1]), kept[6])
    assert torch.equal(weights(networks[2]), weights(train(data)[0]))


def stopped_after(steps, data):
    """The weights of the same training, seen after so many steps."""
    seen, original = [], fit.train_step

    def spy(model, *others):
        loss = original(model, *others)
        seen.append(weights(model))
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "train_step", spy)
        train(data)
    return seen[steps - 1]


@pytest.mark.parametrize("killed_at", [1, 5])
def test_a_killed_training_goes_on_to_the_same_checkpoints(tmp_path, monkeypatch, killed_at):
    expected = [weights(network) for network in train(Toy(), checkpoints=3)]
    original, calls = fit.train_step, iter(range(10**6))

    def dies(*given):
        if next(calls) == killed_at:
            raise KeyboardInterrupt
        return original(*given)

    monkeypatch.setattr(surrogate, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(fit, "train_step", dies)
    with pytest.raises(KeyboardInterrupt):
        train(Toy(), Tools(seed=5, work=tmp_path), checkpoints=3)
    again = [train(Toy(), Tools(seed=5, work=tmp_path), checkpoints=3) for _ in range(2)]  # the second trains no more
    assert next(calls) == 9  # calls before this one: 8 steps and one that died
    for networks in again:
        assert all(torch.equal(weights(one), other) for one, other in zip(networks, expected, strict=True))


def test_a_small_set_is_passed_until_it_has_its_steps():
    # 10 images in batches of 4: 2 steps a pass; 3 passes, or 4 where 7 steps are asked for
    assert surrogate._steps(10, config(epochs=3, batch=4))[0] == 6
    assert surrogate._steps(10, config(epochs=3, batch=4, min_surrogate_steps=7))[0] == 8
    # 12 images less 2 held out: 8 steps of 4 images
    assert surrogate.passes(config(epochs=4, batch=4), 12) == pytest.approx(8 * 4 / 12)


def test_accuracy_is_the_mean_over_classes_whatever_their_size():
    # a network that always says class 0 is right on all of class 0 and on none of class 1: 1/2, not 30/36
    data = Toy(classes=2, each=24)
    data.labels = torch.tensor([0] * 42 + [1] * 6)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(432, 2))
    torch.nn.init.zeros_(network[1].weight)
    with torch.no_grad():
        network[1].bias.copy_(torch.tensor([1.0, 0.0]))
    tools = Tools(seed=5)
    assert surrogate.accuracy(network, data, data.labels, torch.arange(48), tools) == 0.5
    assert surrogate.accuracy(network, data, data.labels, torch.arange(43), tools) == 1.0  # one image does not count
    assert surrogate.accuracy(network, data, data.labels, torch.arange(0), tools) is None


def test_a_surrogate_below_the_floor_is_refused_with_a_remedy():
    # chance 1/3 and half of the way to 1: a floor of 67 %, which no network reaches that never moves
    with pytest.raises(UsageError, match="names 67% of held-out clean images") as caught:
        train(Toy(each=30), lr=1e-9, min_accuracy=0.5)
    assert "epochs" in caught.value.hint


def test_an_unmeasured_surrogate_is_a_warning():
    tools = Tools(seed=5)
    train(Toy(each=4), tools, min_accuracy=1.0)
    assert tools.notes["surrogate_accuracy"] is None and "not measured" in tools.notes["warnings"][0]
