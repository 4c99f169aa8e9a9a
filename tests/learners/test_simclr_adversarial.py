"""Contrastive adversarial training: its attack keeps its bounds and finds a worse view; the rest is SimCLR; resume."""

import itertools

import pytest
import torch
from toy import Toy

from ue_audit.learners import simclr, simclr_adversarial
from ue_audit.tools import Tools
from ue_audit.training import contrastive, contrastive_fit

QUICK = simclr_adversarial.Config(epochs=4, probe_every=2, batch=9, steps=2, backbone="thin")


def toy(each=6):
    data = Toy(each=each)
    data.clean = data
    return data


def model_and_views():
    x = toy().x
    model = contrastive.build("simclr", "thin", 0, QUICK, len(x))
    return model, *contrastive.pair(x, QUICK.views, torch.Generator().manual_seed(0))


def attack(model, a, b, **fields):
    config = QUICK.model_copy(update=fields)
    return simclr_adversarial.attack(model, a, b, config, torch.Generator().manual_seed(1))


def test_the_attack_stays_in_its_bounds_and_finds_a_view_that_is_harder_to_match():
    model, a, b = model_and_views()
    start, end = attack(model, a, b, steps=0), attack(model, a, b, steps=5)
    for delta in (start, end):
        assert float(delta.abs().max()) <= 8 / 255 + 1e-7
        assert float((a + delta).min()) >= 0 and float((a + delta).max()) <= 1
    model.freeze(True)
    losses = [float(model.loss(view, b)) for view in (a + start, a + end)]
    assert losses[1] > losses[0]


def test_one_step_without_room_to_start_is_the_sign_of_nt_xents_gradient_by_the_whole_loss():
    model, a, b = model_and_views()
    a = a.clamp(0.1, 0.9)  # room for the whole radius
    start = attack(model, a, b, steps=0)
    delta = attack(model, a, b, steps=1, alpha=1 / 255)
    model.freeze(True)
    u = (a + start).requires_grad_(True)
    gradient = torch.autograd.grad(model.loss(u, b), u)[0]  # of both views at once, the other's part left alone
    expected = (start + gradient.sign() / 255).clamp(-8 / 255, 8 / 255)
    assert float((delta - expected).abs().gt(1e-6).float().mean()) < 0.01  # signs of gradients near zero may differ


def test_the_attack_leaves_the_network_as_it_was():
    model, a, b = model_and_views()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attack(model, a, b)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.training and all(weight.requires_grad and weight.grad is None for weight in model.learnt())


def test_without_a_radius_it_is_simclr():
    data, plain = toy(), simclr.Config(**QUICK.model_dump(include=set(simclr.Config.model_fields)))
    harmless = QUICK.model_copy(update={"radius": 0.0})
    one = [epoch.loss for epoch in simclr.fit(data, plain, Tools(seed=1))]
    two = [epoch.loss for epoch in simclr_adversarial.fit(data, harmless, Tools(seed=1))]
    assert one == pytest.approx(two, rel=1e-5)
    assert simclr_adversarial.counters(QUICK) == "simclr"
    assert simclr_adversarial.passes(QUICK, 18) == pytest.approx(4 * (2 + 2 + 1 / 3))


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(contrastive_fit, "SAVE_SECONDS", 0.0)

    def run(tools, data):
        return [(e.number, e.loss, e.predict(data.x[:5])) for e in simclr_adversarial.fit(data, QUICK, tools)]

    unbroken, data, calls = run(Tools(seed=3), toy()), toy(), itertools.count()

    def dies(rows):
        if next(calls) == 3:
            raise KeyboardInterrupt
        return data.x[rows]

    data.batch = dies
    with pytest.raises(KeyboardInterrupt):
        run(Tools(seed=3, work=tmp_path), data)
    resumed = run(Tools(seed=3, work=tmp_path), toy())
    assert [found[:2] for found in resumed] == [found[:2] for found in unbroken]
    assert torch.equal(resumed[-1][2], unbroken[-1][2])
