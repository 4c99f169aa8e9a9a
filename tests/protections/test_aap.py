"""AAP on a toy set: as TAP, through SimCLR's views."""

import pytest
import torch
from faint import Faint
from toy import levels

from ue_audit.protections import aap
from ue_audit.tools import Tools
from ue_audit.training import fit, surrogate, views

QUICK = {"epochs": 2, "min_surrogate_steps": 16, "batch": 16, "steps": 8, "alpha": "2/255"}
# as much as a surrogate needs to name the toy images right
LEARNT = QUICK | {"min_surrogate_steps": 48, "strength": 0.1}


def craft(data, tools=None, **more):
    return aap.generate(data, aap.Config(**QUICK | more), tools or Tools(seed=5))


def test_images_are_drawn_to_the_next_class():
    data, config = Faint(), aap.Config(**LEARNT)
    change = levels(data, craft(data, **LEARNT))
    (network,) = surrogate.train(data, data.labels, config, Tools(seed=5), aap.strong(config))
    assert int(change.abs().max()) == 8
    target = (data.labels + 1) % 3
    before, after = (surrogate.cross_entropy(network, x, target).mean() for x in (data.x, data.x + change / 255))
    assert before - after > 1  # nats


def test_training_and_crafting_see_views_of_the_strength_asked_for(monkeypatch):
    seen, original = set(), views.view

    def spy(x, settings, generator):
        seen.add(settings)
        return original(x, settings, generator)

    def never(*given):
        raise AssertionError("a small crop")

    monkeypatch.setattr(views, "view", spy)
    monkeypatch.setattr(fit, "seen", never)
    craft(Faint(), strength=0.5)
    assert seen == {views.Views.of_strength(0.5)}


def test_a_kill_and_the_order_of_files_change_nothing(tmp_path, monkeypatch):
    data, original, calls = Faint(), views.view, iter(range(10**6))
    expected = levels(data, craft(data))

    def dies(*given):
        if next(calls) == 20:  # 16 views to train by, then one a step
            raise KeyboardInterrupt
        return original(*given)

    monkeypatch.setattr(views, "view", dies)
    with pytest.raises(KeyboardInterrupt):
        craft(data, Tools(seed=5, work=tmp_path))
    monkeypatch.setattr(views, "view", original)
    assert torch.equal(levels(data, craft(data, Tools(seed=5, work=tmp_path))), expected)
    shuffled = torch.randperm(len(data), generator=torch.Generator().manual_seed(1))
    again = Faint(order=shuffled)
    assert torch.equal(levels(again, craft(again)), expected[shuffled])
