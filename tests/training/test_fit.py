"""The loop: schedules by hand, batches that cover a pass, views that differ per image."""

import numpy as np
import pytest
import torch

from ue_audit.imagedata import ImageData
from ue_audit.training import fit


def recipe(**more):
    return fit.Recipe(**{"epochs": 2, "batch": 4, "lr": 0.8} | more)


def test_one_cycle_climbs_linearly_then_falls_linearly():
    # 10 steps, a fifth of them climbing: 1/2, 1, then (10 - k) / 8 for k = 2..9
    rates = [fit.rate(k, 10, recipe(warmup=0.2)) / 0.8 for k in range(10)]
    assert rates == pytest.approx([0.5, 1.0, *[(10 - k) / 8 for k in range(2, 10)]])


def test_cosine_falls_from_the_peak_and_halves_in_the_middle():
    rates = [fit.rate(k, 10, recipe(schedule="cosine")) for k in range(10)]
    assert rates[0] == pytest.approx(0.8) and rates[5] == pytest.approx(0.4)
    assert rates == sorted(rates, reverse=True)


def test_a_pass_is_disjoint_whole_batches_in_a_seeded_order():
    one, two = (list(fit.batches(11, 4, torch.Generator().manual_seed(5))) for _ in range(2))
    assert [len(rows) for rows in one] == [4, 4]
    assert len(set(torch.cat(one).tolist())) == 8
    assert torch.equal(torch.cat(one), torch.cat(two))
    assert [len(rows) for rows in fit.batches(3, 64, torch.Generator())] == [3]


def test_no_crop_and_no_flip_shows_the_image_itself():
    x = torch.rand(4, 3, 8, 8)
    assert fit.seen(x, recipe(crop=0.0, flip=False), torch.Generator()) is x
    assert not torch.equal(fit.seen(x, recipe(), torch.Generator().manual_seed(1)), x)


def test_a_step_lowers_the_loss_of_its_batch_and_clipping_bounds_it():
    torch.manual_seed(0)
    x, y = torch.rand(8, 3, 4, 4), torch.arange(8) % 2
    for clip in (None, 1e-6):
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2))
        before = fit.loss_of(model, x, y).item()
        fit.train_step(model, torch.optim.SGD(model.parameters(), 0.1), x, y, clip)
        after = fit.loss_of(model, x, y).item()
        assert after < before if clip is None else abs(after - before) < 1e-6


def test_steps_divide_the_rate_by_ten_after_each_milestone():
    # of 40 epochs: after 14, 24 and 35, as for targeted poisoning
    rates = [fit.rate(k, 40, recipe(schedule="step")) / 0.8 for k in range(40)]
    assert rates == pytest.approx([1.0] * 14 + [0.1] * 10 + [0.01] * 11 + [0.001] * 5)


def test_held_images_are_the_batches_of_the_set_bit_by_bit(monkeypatch):
    monkeypatch.setattr(fit, "COPIED", 3)
    pixels = np.arange(8 * 6 * 6 * 3, dtype=np.int64).astype(np.uint8).reshape(8, 6, 6, 3)  # every level
    data = ImageData(pixels, [str(k) for k in range(8)], (), None)
    device = torch.device("cpu")
    for rows in (torch.tensor([5, 0, 5, 7]), torch.tensor([2]), torch.arange(8)):
        held, plain = fit.hold(pixels, device)(rows), fit.resident(data, device)(rows)
        assert torch.equal(held, data.batch(rows)) and torch.equal(plain, data.batch(rows))
        assert held.dtype == torch.float32 and held.is_contiguous()


def test_a_given_mirror_replaces_the_drawn_one():
    x = torch.rand(4, 3, 8, 8)
    mirror = torch.tensor([True, False, True, False])
    found = fit.seen(x, recipe(crop=0.0), torch.Generator().manual_seed(0), mirror)
    assert torch.equal(found, torch.where(mirror.view(-1, 1, 1, 1), x.flip(3), x))
