"""HYPO on a toy set: the surrogate is surer of every true class."""

import torch
from faint import Faint
from toy import levels

from ue_audit.protections import hypo
from ue_audit.tools import Tools
from ue_audit.training import surrogate

QUICK = {"epochs": 2, "min_surrogate_steps": 16, "batch": 16, "steps": 10, "alpha": "1/255"}
# as much as a surrogate needs to name every toy image right
LEARNT = QUICK | {"min_surrogate_steps": 48, "crop": 0.0, "flip": False}


def craft(data, tools=None, **more):
    return hypo.generate(data, hypo.Config(**QUICK | more), tools or Tools(seed=5))


def test_the_surrogate_is_surer_of_the_true_class_and_not_of_the_opposite_change():
    data, config, tools = Faint(), hypo.Config(**LEARNT), Tools(seed=5)
    d = craft(data, tools, **LEARNT)(torch.arange(36))
    (network,) = surrogate.train(data, data.labels, config, Tools(seed=5), surrogate.cropped(config))
    loss = {s: float(surrogate.cross_entropy(network, data.x + s * d, data.labels).mean()) for s in (-1, 0, 1)}
    assert loss[1] < loss[0] < loss[-1]
    assert tools.notes["surrogate_accuracy_protected"] == 1.0
    assert "adversarial training" in tools.notes["warnings"][-1]


def test_it_starts_from_nothing_so_one_step_is_one_level():
    # no view cuts a pixel off, so that every one has a gradient and moves by one level
    change = levels(Faint(), craft(Faint(), steps=1))
    assert set(change.unique().tolist()) == {-1, 1}


def test_the_bound_is_exact_and_the_order_of_files_changes_nothing():
    expected = levels(Faint(), craft(Faint()))
    assert int(expected.abs().max()) == 8
    shuffled = torch.randperm(36, generator=torch.Generator().manual_seed(1))
    again = Faint(order=shuffled)
    assert torch.equal(levels(again, craft(again)), expected[shuffled])
