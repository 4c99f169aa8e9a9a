"""UEraser: the choice of the hardest view transcribed, its views in range, one view a plain step."""

import pytest
import torch
from torch.nn import functional as F
from toy import Toy

from ue_audit.learners import ueraser
from ue_audit.tools import Tools
from ue_audit.training import backbones, fit, plasma, supervised_fit

QUICK = ueraser.Config(epochs=2, batch=8, lr=0.05, views=3, hardest_share=0.5)
LITE = QUICK.model_copy(update={"views": 1})


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def epochs(tools, data, config=QUICK):
    return [(e.number, e.loss, e.predict(Toy().batch(torch.arange(4)))) for e in ueraser.fit(data, config, tools)]


def images(n=8, side=12):
    return torch.rand(n, 3, side, side, generator=draws(9))


def test_the_hardest_view_is_the_one_of_the_largest_loss():
    model, y = backbones.build("small", 3, 0), torch.arange(8) % 3
    seen = [ueraser.view(images(), QUICK, draws(k)) for k in range(5)]
    found = ueraser.hardest(model, seen, y)
    for i in range(8):
        losses = [float(F.cross_entropy(fit.logits_of(model, x[i : i + 1]), y[i : i + 1])) for x in seen]
        assert torch.equal(found[i], seen[losses.index(max(losses))][i])


def test_looking_for_the_hardest_view_leaves_the_network_as_it_was():
    model, y = backbones.build("small", 3, 0), torch.arange(8) % 3
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ueraser.hardest(model, [images(), images().flip(3)], y)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


def test_one_view_is_a_plain_step_on_it():
    def plain(model, optimiser, lot):
        x = fit.seen(lot.x, LITE, lot.generator("views"))
        return fit.train_step(model, optimiser, ueraser.view(x, LITE, lot.generator("view 0")), lot.y)

    expected = [(e.number, e.loss) for e in supervised_fit.fit(Toy(), LITE, Tools(seed=3), plain)]
    assert [(number, loss) for number, loss, _ in epochs(Tools(seed=3), Toy(), LITE)] == expected


def test_the_hardest_views_are_learnt_in_the_first_share_of_the_epochs():
    assert QUICK.hard_epochs() == 1 and LITE.hard_epochs() == 0
    asked = []

    class Counting(Tools):
        def generator(self, *names):
            asked.append(names)
            return super().generator(*names)

    epochs(Counting(seed=3), Toy())
    steps = {k: [step for name, *step in asked if name == f"view {k}"] for k in range(3)}
    assert [len(steps[k]) for k in range(3)] == [12, 6, 6]  # six batches an epoch


def test_brightness_and_contrast_are_their_formulas():
    x = images()
    n, side = len(x), x.shape[-1]
    a = 0.5 + 0.5 * torch.rand(n, generator=(one := draws(1))).view(-1, 1, 1, 1)
    m = plasma.fractals(0.3 + 0.4 * torch.rand(n, generator=one), (3, side, side), one)
    assert torch.allclose(ueraser.brightness(x, draws(1)), (x + a * (2 * m - 1)).clamp(0, 1), atol=1e-6)
    m = plasma.fractals(0.3 + 0.4 * torch.rand(n, generator=(two := draws(2))), (3, side, side), two)
    assert torch.allclose(ueraser.contrast(x, draws(2)), (0.5 + 4 * m * (x - 0.5)).clamp(0, 1), atol=1e-6)


def test_a_shuffle_gives_every_order_of_the_channels():
    x = images(200)
    found = ueraser.shuffle(x, draws())
    orders = set()
    for before, after in zip(x, found, strict=True):
        order = tuple(next(c for c in range(3) if torch.equal(before[c], channel)) for channel in after)
        orders.add(order)
    assert len(orders) == 6


@pytest.mark.parametrize("change", [{}, {"p_plasma": 1.0, "space": "wide"}, {"jpeg_quality": 10, "p_plasma": 0.0}])
def test_a_view_stays_in_range_and_leaves_its_image_alone(change):
    config, x = QUICK.model_copy(update=change), images(64)
    before = x.clone()
    found = ueraser.view(x, config, draws())
    assert found.shape == x.shape and float(found.min()) >= 0 and float(found.max()) <= 1
    assert torch.equal(x, before) and torch.equal(found, ueraser.view(x, config, draws()))
    assert float(((found - x).abs().amax((1, 2, 3)) > 0).float().mean()) > 0.8


def test_a_change_reaches_its_share_of_the_images():
    x = images(400)
    for p in (0.0, 0.3, 1.0):
        found = ueraser._sometimes(lambda x, _: 1 - x, x, p, draws())
        changed = (found == 1 - x).flatten(1).all(1)
        assert torch.equal(found[~changed], x[~changed])
        assert abs(float(changed.float().mean()) - p) < (0.1 if 0 < p < 1 else 1e-9)  # 400 coins: 0.3 +- 0.023


def test_jpeg_takes_detail_the_more_the_lower_its_quality():
    x = images(16, 16)
    loss = [float((ueraser.encoded(x, q, draws()) - x).square().mean()) for q in (100, 60, 10)]
    assert loss[0] < loss[1] < loss[2]


@pytest.mark.parametrize("dies_at", [4, 9])
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, monkeypatch, dies_at):
    monkeypatch.setattr(supervised_fit, "SAVE_SECONDS", 0.0)
    unbroken, data, calls = epochs(Tools(seed=3), Toy()), Toy(), iter(range(99))

    def dies(rows):
        if next(calls) == dies_at:  # six batches an epoch
            raise KeyboardInterrupt
        return Toy.batch(data, rows)

    data.batch = dies
    with pytest.raises(KeyboardInterrupt):
        list(ueraser.fit(data, QUICK, Tools(seed=3, work=tmp_path)))
    resumed = epochs(Tools(seed=3, work=tmp_path), Toy())
    assert [(n, loss) for n, loss, _ in resumed] == [(n, loss) for n, loss, _ in unbroken[dies_at // 6 :]]
    assert torch.equal(resumed[-1][2], unbroken[-1][2])


def test_its_cost_and_the_victim_it_hardens():
    config = ueraser.Config(epochs=20, views=6, hardest_share=0.5)
    assert ueraser.passes(config, 2000) == pytest.approx(20 + 10 * 6 / 3)
    assert ueraser.passes(ueraser.Config(epochs=20, views=1), 2000) == 20
    assert ueraser.counters(config) == "supervised"
