"""The engine: on a linear loss its result is known; permutations, starts, restarts and resume without a network."""

import pytest
import torch
from toy import Toy

from ue_audit.errors import NonFiniteError
from ue_audit.tools import Tools
from ue_audit.training import targeted
from ue_audit.training.rows import in_order

EPS = 8 / 255


def plain(x, generator):
    return x


def slopes(data, seed=0):
    return torch.randn(data.labels.max() + 1, *data.x.shape[1:], generator=torch.Generator().manual_seed(seed))


def linear(w):
    """f(u) = <w_y, u>: the gradient is w_y wherever u is."""
    return lambda u, y: (u * w[y]).flatten(1).sum(1)


def aim(data, objectives, tools=None, view=plain, **more):
    config = targeted.Attack(**{"steps": 3, "alpha": 1 / 255, "start": "zero"} | more)
    return targeted.Aim(data, data.labels, objectives, view, config, tools or Tools(seed=5))


def test_a_linear_loss_moves_every_pixel_against_its_slope_by_steps_times_alpha():
    data = Toy()
    w, rows = slopes(data), torch.arange(48)
    d = targeted.craft(aim(data, [linear(w)]))[rows]
    assert torch.allclose(d, -3 / 255 * w[data.labels].sign(), atol=1e-6)  # the toy's greys are away from 0 and 1
    d = targeted.craft(aim(data, [linear(w)], steps=20))[rows]
    assert torch.allclose(d, -EPS * w[data.labels].sign(), atol=1e-6)


def test_several_networks_add_their_gradients():
    data, rows = Toy(), torch.arange(48)
    one, two = slopes(data), slopes(data, 1)
    d = targeted.craft(aim(data, [linear(one), linear(two)]))[rows]
    assert torch.allclose(d, -3 / 255 * (one + two)[data.labels].sign(), atol=1e-6)


def test_every_step_network_and_judgement_sees_a_view_of_its_own():
    data, drawn = Toy(), []

    def view(x, generator):
        drawn.append(generator.initial_seed())
        return x

    w = slopes(data)
    targeted.craft(aim(data, [linear(w), linear(w)], view=view, restarts=2, start="uniform"))
    assert len(drawn) == len(set(drawn)) == 2 * (3 * 2 + targeted.JUDGING_VIEWS)


@pytest.mark.parametrize("start", ["normal", "uniform"])
def test_a_random_start_fills_the_budget_and_no_more(start):
    # a flat loss never moves: what is left is the start, its share at the bound 2 (1 - Phi(1)) = 0.317 if normal
    data = Toy()
    d = targeted.craft(aim(data, [lambda u, y: 0 * u.flatten(1).sum(1)], start=start))[torch.arange(48)]
    at_bound = float((d.abs() > 0.9999 * EPS).float().mean())
    assert at_bound == pytest.approx(0.317 if start == "normal" else 0.0, abs=0.01)
    assert float(d.abs().max()) <= EPS + 1e-5 and abs(float(d.mean())) < 0.01 * EPS


def test_every_image_keeps_its_own_best_start():
    # the loss is u's first pixel, and no step moves it; the best of 5 starts is the lowest draw of each image
    data, rows = Toy(), torch.arange(48)

    def first(u, y):
        return u.detach()[:, 0, 0, 0] + 0 * u.flatten(1).sum(1)

    best = targeted.craft(aim(data, [first], start="uniform", restarts=5, steps=1))[rows]
    order = in_order(data)
    starts = [
        targeted._start(data.x[order], targeted.Attack(start="uniform"), Tools(seed=5).generator("start", 0, k))
        for k in range(5)
    ]
    expected = torch.stack(starts)[:, :, 0, 0, 0].min(0).values
    assert torch.allclose(best[order][:, 0, 0, 0], expected, atol=1e-4)


def test_a_surrogate_that_gives_nan_is_an_error_and_not_an_image_left_alone():
    with pytest.raises(NonFiniteError, match="finite loss"):
        targeted.craft(aim(Toy(), [lambda u, y: torch.nan * u.flatten(1).sum(1)]))


@pytest.mark.parametrize("killed_at", [1, 5, 9])
def test_a_killed_crafting_goes_on_to_the_same_bytes_within_a_chunk(tmp_path, monkeypatch, killed_at):
    data, rows, calls = Toy(), torch.arange(48), iter(range(10**6))
    monkeypatch.setattr(targeted, "CHUNK_PIXELS", 20 * 12**2)  # chunks of 20, 20 and 8 images
    monkeypatch.setattr(targeted, "SAVE_SECONDS", 0.0)
    w = slopes(data)

    def bent(u, y):
        return ((u - 0.5) ** 2 * w[y]).flatten(1).sum(1)

    def dies(u, y):
        if next(calls) == killed_at:
            raise KeyboardInterrupt
        return bent(u, y)

    def noisy(x, generator):
        return x + 0.1 * torch.randn(x.shape, generator=generator)

    settings = {"view": noisy, "start": "uniform", "restarts": 2}
    expected = targeted.craft(aim(data, [bent], **settings))[rows]
    with pytest.raises(KeyboardInterrupt):
        targeted.craft(aim(data, [dies], Tools(seed=5, work=tmp_path), **settings))
    for _ in range(2):
        found = targeted.craft(aim(data, [bent], Tools(seed=5, work=tmp_path), **settings))[rows]
        assert torch.equal(found, expected)


@pytest.mark.parametrize("how", ["next", "opposite", "random"])
def test_a_permutation_is_a_bijection_that_maps_no_class_onto_itself(how):
    for n in range(2, 30):
        names = [f"c{k:02d}" for k in range(n)]
        pi = targeted.permutation(names, how, Tools(seed=n))
        assert sorted(pi.tolist()) == list(range(n)) and not (pi == torch.arange(n)).any()
        assert torch.equal(pi, targeted.permutation(names, how, Tools(seed=n)))


def test_permutations_go_by_name_and_the_random_one_by_seed():
    assert targeted.permutation(["cat", "ant", "bee"], "next", Tools()).tolist() == [1, 2, 0]  # ant bee cat ant
    assert targeted.permutation([f"{k}" for k in range(10)], "opposite", Tools()).tolist() == [
        5, 6, 7, 8, 9, 0, 1, 2, 3, 4
    ]  # fmt: skip
    names = [f"{k:02d}" for k in range(20)]
    one, two = (targeted.permutation(names, "random", Tools(seed=seed)) for seed in (0, 1))
    assert not torch.equal(one, two)


def test_passes_count_training_gradients_and_the_forward_passes_between():
    # 8 images, none held out, 3 passes of 2 batches: 3 an image; 5 networks, 2 starts, 30 steps and 4 views each
    recipe = {"epochs": 3, "min_surrogate_steps": 0, "batch": 4, "held_out": 0.0}
    config = targeted.Settings(steps=30, restarts=2, **recipe)
    assert targeted.passes(config, 8, 5) == pytest.approx(3 + 2 * 5 * (30 + 4 / 3) + 1 / 3)
