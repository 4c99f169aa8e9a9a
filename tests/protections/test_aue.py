"""AUE on a toy set: EMN's promises, on views."""

import pytest
import torch
from toy import Toy, levels

from ue_audit.config import load_preset
from ue_audit.errors import UsageError
from ue_audit.protections import aue
from ue_audit.tools import Tools, substream
from ue_audit.training import backbones, fit, minmin, views
from ue_audit.training.noise import Noise

QUICK = {"batch": 16, "steps": 4, "max_rounds": 2, "alpha": 2 / 255}


def craft(data, tools=None, **more):
    return aue.generate(data, aue.Config(**QUICK | more), tools or Tools(seed=5))


@pytest.fixture(scope="module")
def protected():
    data = Toy()
    return data, levels(data, craft(data))


def test_the_bound_is_exact_and_both_signs_are_present(protected):
    changed = protected[1][protected[1] != 0]
    assert int(protected[1].abs().max()) == 8
    assert 0.3 < float((changed < 0).float().mean()) < 0.7


def test_noise_lowers_the_loss_of_fresh_views_and_its_negative_raises_it():
    data, rows = Toy(), torch.arange(48)
    config, tools = aue.Config(**QUICK | {"steps": 10}), Tools(seed=5)
    problem = minmin.pose(data, data.labels, rows, config, tools)
    model = backbones.build("small", 3, substream(5, "surrogate"))
    optimiser = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(6):
        fit.train_step(model, optimiser, data.x, data.labels)
    model.eval().requires_grad_(False)
    before, after = (Noise(torch.zeros(48, 3, 12, 12).half().numpy()) for _ in range(2))
    aue.emn.improve(problem, model, before, after, 1)

    def loss(sign):
        seen = (config.view(data.x + sign * after[rows], tools.generator("fresh", k)) for k in range(10))
        return sum(float(fit.loss_of(model, x, data.labels)) for x in seen)

    assert loss(1) < loss(0) < loss(-1)


def test_a_round_is_a_pass_whose_steps_and_noise_see_views_of_the_asked_for_strength(monkeypatch):
    seen, original = [], views.view

    def spy(x, settings, generator):
        seen.append((len(x), settings))
        return original(x, settings, generator)

    monkeypatch.setattr(views, "view", spy)
    craft(Toy(), strength=0.5, max_rounds=1)
    assert [n for n, _ in seen] == [16, 16, 16, 48, 48, 48, 48]
    assert {settings for _, settings in seen} == {views.Views.of_strength(0.5)}


def test_the_learning_rate_falls_on_a_cosine_over_the_rounds():
    config = aue.Config(lr=0.8, max_rounds=4)
    # (1 + cos(k pi / 4)) / 2 for k = 0..3
    assert [config.rate(k) / 0.8 for k in (1, 2, 3, 4)] == pytest.approx([1, 0.853553, 0.5, 0.146447], abs=1e-6)


def test_all_rounds_are_done_and_the_last_noise_is_used():
    data, tools = Toy(), Tools(seed=5)
    craft(data, tools)
    assert tools.notes["rounds"] == 2 and not {"threshold_met", "warnings"} & set(tools.notes)
    assert not levels(data, craft(data, max_rounds=0)).any()


def test_equal_seeds_give_equal_bytes_and_the_order_of_files_changes_nothing(protected):
    data, expected = protected
    shuffled = torch.randperm(len(data), generator=torch.Generator().manual_seed(1))
    again = Toy(order=shuffled)
    assert torch.equal(levels(again, craft(again)), expected[shuffled])
    assert not torch.equal(levels(data, craft(data, Tools(seed=6))), expected)


@pytest.mark.parametrize("killed_at", [1, 5, 9])
def test_a_killed_search_goes_on_to_the_same_bytes(tmp_path, monkeypatch, protected, killed_at):
    data, expected = protected  # 3 surrogate steps and 4 signed steps a round
    original, calls = fit.loss_of, iter(range(10**6))

    def dies(model, x, y):
        if next(calls) == killed_at:
            raise KeyboardInterrupt
        return original(model, x, y)

    monkeypatch.setattr(fit, "loss_of", dies)
    with pytest.raises(KeyboardInterrupt):
        craft(data, Tools(seed=5, work=tmp_path))
    monkeypatch.setattr(fit, "loss_of", original)
    assert torch.equal(levels(data, craft(data, Tools(seed=5, work=tmp_path))), expected)


def test_the_published_settings_cost_what_they_are_known_to():
    fields = load_preset("protect", "aue-paper")
    assert fields.pop("method") == "aue"
    config = aue.Config(**fields)
    # 60 passes x (1 + 5), and 60 forward passes to know the error; 390 batches of 128 leave 80 of 50,000 images
    assert aue.passes(config, 50_000) == pytest.approx(60 * (49920 / 50_000 + 5) + 20)


def test_labels_are_needed():
    for data in (Toy().without_labels(), Toy(classes=1)):
        with pytest.raises(UsageError, match="two class folders"):
            aue.generate(data, aue.Config(), Tools())
