"""EMN, sample-wise, on a toy set: what must hold whatever network and noise come out."""

import pytest
import torch
from toy import Toy, levels

from ue_audit.errors import UsageError
from ue_audit.protections import emn
from ue_audit.tools import Tools, substream
from ue_audit.training import backbones, fit, minmin
from ue_audit.training.noise import Noise

QUICK = {"surrogate_steps": 4, "batch": 16, "steps": 4, "min_rounds": 3, "max_rounds": 3}


def craft(data, tools=None, **more):
    return emn.generate(data, emn.Config(**QUICK | more), tools or Tools(seed=5))


@pytest.fixture(scope="module")
def protected():
    data = Toy()
    return data, levels(data, craft(data))


def test_the_bound_is_exact_in_whole_levels_and_reached(protected):
    assert int(protected[1].abs().max()) == 8


def test_both_signs_are_present(protected):
    changed = protected[1][protected[1] != 0]
    assert 0.3 < float((changed < 0).float().mean()) < 0.7


def test_delta_stays_in_the_ball_and_in_the_pixel_range():
    data = Toy()
    data.x[:8, :, :6] = 0.0
    data.x[:8, :, 6:] = 1.0
    rows = torch.arange(len(data))
    d = craft(data)(rows)
    assert d.dtype == torch.float32 and d.shape == data.x.shape
    assert float(d.abs().max()) <= float(torch.tensor(8 / 255))
    assert float((data.x + d).min()) >= 0 and float((data.x + d).max()) <= 1
    assert torch.equal(craft(data)(rows[3:5]), d[3:5])


def test_the_noise_makes_images_look_solved_and_its_negative_does_not():
    data, rows = Toy(), torch.arange(48)
    config, tools = emn.Config(**QUICK, shift=0.0), Tools(seed=5)
    problem = minmin.pose(data, data.labels, rows, config, tools)
    model = backbones.build("small", 3, substream(5, "surrogate"))
    before, after = (Noise(torch.zeros(48, 3, 12, 12).half().numpy()) for _ in range(2))
    optimiser = torch.optim.SGD(model.parameters(), 0.05)
    for _ in range(6):
        fit.train_step(model, optimiser, data.x, data.labels)
    model.eval().requires_grad_(False)
    emn.improve(problem, model, before, after, 1)
    loss = {sign: float(fit.loss_of(model, data.x + sign * after[rows], data.labels)) for sign in (-1, 0, 1)}
    assert loss[1] < loss[0] < loss[-1]
    assert not before.table.any()


def test_equal_seeds_give_equal_bytes_and_the_order_of_files_changes_nothing(protected):
    data, expected = protected
    shuffled = torch.randperm(len(data), generator=torch.Generator().manual_seed(1))
    again = Toy(order=shuffled)
    assert torch.equal(levels(again, craft(again)), expected[shuffled])
    assert not torch.equal(levels(data, craft(data, Tools(seed=6))), expected)


@pytest.mark.parametrize("killed_at", [0, 5, 11])
def test_a_killed_search_goes_on_to_the_same_bytes(tmp_path, monkeypatch, protected, killed_at):
    data, expected = protected
    original, calls = fit.loss_of, iter(range(10**6))

    def dies(model, x, y):
        if next(calls) == killed_at:  # 4 surrogate steps and 4 signed steps a round: in rounds 1, 1 and 2
            raise KeyboardInterrupt
        return original(model, x, y)

    monkeypatch.setattr(fit, "loss_of", dies)
    with pytest.raises(KeyboardInterrupt):
        craft(data, Tools(seed=5, work=tmp_path))
    monkeypatch.setattr(fit, "loss_of", original)
    assert torch.equal(levels(data, craft(data, Tools(seed=5, work=tmp_path))), expected)


def test_no_rounds_leave_the_images_alone():
    data, tools = Toy(), Tools(seed=5)
    assert not levels(data, craft(data, tools, min_rounds=0, max_rounds=0)).any()
    assert "threshold not met" in tools.notes["warnings"][0]


def test_the_search_stops_at_the_first_good_round_after_the_least_number():
    tools = Tools(seed=5)
    craft(Toy(), tools, min_rounds=2, max_rounds=9, stop_error=1.0)
    assert tools.notes["rounds"] == 2 and tools.notes["threshold_met"] and "warnings" not in tools.notes


def test_an_unmet_threshold_is_a_warning_and_keeps_the_best_round():
    tools = Tools(seed=5)
    craft(Toy(), tools, lr=1e-6, stop_error=0.0)
    assert tools.notes["rounds"] == 3 and not tools.notes["threshold_met"]
    assert f"{tools.notes['surrogate_error']:.3f} at best in 3 rounds" in tools.notes["warnings"][0]


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="above max_rounds"):
        emn.Config(min_rounds=5, max_rounds=4)


def test_the_published_settings_cost_about_two_hundred_passes_an_image():
    # 10 rounds x (20 signed steps + 10 batches of 512 of 50,000 images + a forward pass, a third of both)
    config = emn.Config(surrogate="resnet18", batch=512, steps=20, min_rounds=1)
    assert emn.passes(config, 50_000) == pytest.approx(10 * (20 + 5120 / 50_000 + 1 / 3))


def test_labels_are_needed():
    for data in (Toy().without_labels(), Toy(classes=1)):
        with pytest.raises(UsageError, match="two class folders"):
            emn.generate(data, emn.Config(), Tools())
