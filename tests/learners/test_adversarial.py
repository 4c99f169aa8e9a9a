"""Adversarial training: the attack against a literal transcription, its bounds, and what is left without it."""

import pytest
import torch
from torch.nn import functional as F
from toy import Toy

from ue_audit.errors import UsageError
from ue_audit.learners import adversarial, supervised
from ue_audit.tools import Tools
from ue_audit.training import backbones, fit, supervised_fit

BASE = {"epochs": 2, "batch": 8, "lr": 0.05}
QUICK = adversarial.Config(**BASE, steps=2, alpha="4/255")


def epochs(tools, data, config=QUICK, learner=adversarial):
    return [(e.number, e.loss, e.predict(Toy().batch(torch.arange(4)))) for e in learner.fit(data, config, tools)]


def attacked(config, seed=0):
    """A network, images that reach 0 and 1, and the change the attack finds."""
    x = Toy(classes=2, each=4).x
    x[:, :, :2], x[:, :, -2:] = 0, 1
    y, model = torch.arange(8) % 2, backbones.build("small", 2, seed)
    return model, x, y, adversarial.attack(model, x, y, config, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("radius", "steps"), [("8/255", 10), ("4/255", 3), ("8/255", 0), (1.0, 2)])
def test_the_attack_leaves_neither_the_radius_nor_the_pixel_range(radius, steps):
    config = adversarial.Config(radius=radius, steps=steps, alpha="2/255")
    _, x, _, delta = attacked(config)
    assert 0 < float(delta.abs().max()) <= config.radius + 1e-7
    assert float((x + delta).min()) >= 0 and float((x + delta).max()) <= 1


def test_the_attack_is_projected_gradient_ascent_step_by_step():
    config = adversarial.Config(steps=4)
    model, x, y, delta = attacked(config)
    model.eval()
    u = x + config.radius * (2 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) - 1)
    u = u.clamp(0, 1)
    for _ in range(config.steps):
        u = u.detach().requires_grad_(True)
        loss = sum(F.cross_entropy(model(u[i : i + 1]), y[i : i + 1]) for i in range(len(u)))
        step = u + config.alpha * torch.autograd.grad(loss, u)[0].sign()
        u = torch.minimum(torch.maximum(step, x - config.radius), x + config.radius).clamp(0, 1)
    same = ((u - x - delta).abs() < 1e-5).float().mean()  # but where a gradient is 0 to rounding
    assert float(same) > 0.999


def test_the_attack_raises_the_loss_and_leaves_the_network_as_it_was():
    model, x, y, delta = attacked(adversarial.Config())
    before = backbones.build("small", 2, 0).state_dict()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())
    losses = [F.cross_entropy(fit.logits_of(model, u), y) for u in (x, x + delta)]
    assert losses[1] > losses[0]


def test_an_attack_of_no_steps_from_the_image_itself_is_the_victims_training():
    none = adversarial.Config(**BASE, steps=0, random_start=False)
    hardened = epochs(Tools(seed=3), Toy(), none)
    plain = epochs(Tools(seed=3), Toy(), supervised.Config(**BASE), supervised)
    for (_, loss, logits), (_, expected, expected_logits) in zip(hardened, plain, strict=True):
        assert loss == expected and torch.equal(logits, expected_logits)
    assert epochs(Tools(seed=3), Toy())[0][1] > plain[0][1]


@pytest.mark.parametrize("dies_at", [7, 9])
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, monkeypatch, dies_at):
    monkeypatch.setattr(supervised_fit, "SAVE_SECONDS", 0.0)
    unbroken, data, calls = epochs(Tools(seed=3), Toy()), Toy(), iter(range(99))

    def dies(rows):
        if next(calls) == dies_at:  # six batches an epoch: in the second one
            raise KeyboardInterrupt
        return Toy.batch(data, rows)

    data.batch = dies
    with pytest.raises(KeyboardInterrupt):
        list(adversarial.fit(data, QUICK, Tools(seed=3, work=tmp_path)))
    ((number, loss, logits),) = epochs(Tools(seed=3, work=tmp_path), Toy())
    assert (number, loss) == unbroken[1][:2] and torch.equal(logits, unbroken[1][2])


def test_its_cost_and_the_victim_it_hardens():
    assert adversarial.passes(adversarial.Config(epochs=15), 2000) == 165
    assert adversarial.counters(QUICK) == "supervised"
    with pytest.raises(UsageError, match="one folder per class"):
        next(adversarial.fit(Toy().without_labels(), QUICK, Tools()))
