"""SEP on a toy set: all states of one training take the images for another class."""

import pytest
import torch
from faint import Faint
from toy import levels

from ue_audit.protections import sep
from ue_audit.tools import Tools
from ue_audit.training import fit, surrogate, targeted

QUICK = {"epochs": 2, "min_surrogate_steps": 24, "batch": 16, "steps": 8, "alpha": "2/255", "checkpoints": 3}
# as much as a surrogate needs to name every toy image right
LEARNT = QUICK | {"min_surrogate_steps": 72, "crop": 0.0, "flip": False}


def craft(data, tools=None, **more):
    return sep.generate(data, sep.Config(**QUICK | more), tools or Tools(seed=5))


@pytest.fixture(scope="module")
def networks():
    data, config = Faint(), sep.Config(**LEARNT)
    return surrogate.train(data, data.labels, config, Tools(seed=5), surrogate.cropped(config), 3)


@pytest.mark.parametrize("objective", ["logits", "features"])
def test_every_state_of_the_training_takes_the_images_for_the_target_class(objective, networks):
    data, tools = Faint(), Tools(seed=5)
    change = levels(data, craft(data, tools, objective=objective, **LEARNT))
    assert int(change.abs().max()) == 8
    target = targeted.permutation(data.classes, "opposite", tools)[data.labels]
    for network in networks[1:]:
        before, after = (fit.logits_of(network, x).argmax(1) for x in (data.x, data.x + change / 255))
        assert (before == target).float().mean() < 0.2 and (after == target).float().mean() > 0.8
    assert tools.notes["poison_accuracy"] > 0.8


def test_features_are_drawn_to_the_mean_of_the_target_class(networks):
    # transcribed: the mean over features of (h(u) - m)^2, m the mean of h over the clean images of the class
    data, network = Faint(each=4), networks[-1]
    objective = sep.aligning(network, data, data.labels, Tools())
    h = network[:-1](data.x)
    y = torch.tensor([2, 0, 1])
    expected = [float(((h[i] - h[data.labels == c].mean(0)) ** 2).mean()) for i, c in enumerate(y.tolist())]
    assert objective(data.x[:3], y).tolist() == pytest.approx(expected, rel=1e-4)


def test_a_kill_and_the_order_of_files_change_nothing(tmp_path, monkeypatch):
    data, original, calls = Faint(), fit.seen, iter(range(10**6))
    expected = levels(data, craft(data))

    def dies(*given):
        if next(calls) == 35:  # 24 views to train by, then three a step
            raise KeyboardInterrupt
        return original(*given)

    monkeypatch.setattr(fit, "seen", dies)
    with pytest.raises(KeyboardInterrupt):
        craft(data, Tools(seed=5, work=tmp_path))
    monkeypatch.setattr(fit, "seen", original)
    assert torch.equal(levels(data, craft(data, Tools(seed=5, work=tmp_path))), expected)
    shuffled = torch.randperm(len(data), generator=torch.Generator().manual_seed(1))
    again = Faint(order=shuffled)
    assert torch.equal(levels(again, craft(again)), expected[shuffled])


def test_cost_is_counted_per_image():
    passes = sep.passes(sep.Config(**QUICK), 48)
    assert passes == pytest.approx(24 * 16 / 48 + 3 * (8 + 4 / 3) + 1 / 3)
