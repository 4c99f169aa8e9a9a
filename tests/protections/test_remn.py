"""REMN on a toy set: gradients pulled back through crop and flip, a last pass over every image, exact resume."""

from functools import partial

import pytest
import torch
from torch import nn
from toy import Toy, levels

from ue_audit.config import load_preset
from ue_audit.errors import UsageError
from ue_audit.progress import Progress
from ue_audit.protections import remn
from ue_audit.tools import Tools
from ue_audit.training import augment, fit, pgd
from ue_audit.training.rows import in_order

QUICK = {"surrogate_steps": 6, "batch": 16, "steps": 3, "transforms": 2, "inner_steps": 1}
ROWS = torch.arange(48)


def craft(data, tools=None, **more):
    return remn.generate(data, remn.Config(**QUICK | more), tools or Tools(seed=5))


def stream(*names):
    return Tools(seed=7).generator(*names)


@pytest.fixture(scope="module")
def protected():
    data = Toy()
    return data, levels(data, craft(data))


@pytest.fixture(scope="module")
def surrogate():
    """A frozen surrogate of the toy set, adversarially trained on its noise, and settings to find the noise by."""
    data, tools = Toy(), Tools(seed=5)
    config = remn.Config(**QUICK | {"surrogate_steps": 12, "steps": 4}, surrogate="small")
    model = remn.train(data, data.labels, in_order(data), config, tools)
    return data, config.model_copy(update={"steps": 8, "transforms": 4, "inner_steps": 2}), model


# -- the gradient --------------------------------------------------------------------------------------------


@pytest.fixture
def linear():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5), nn.Tanh(), nn.Linear(5, 3)).requires_grad_(False)
    return model, torch.rand(4, 3, 8, 8), torch.tensor([0, 1, 2, 0])


def plain(model, u, y):
    return pgd.pixel_gradient(lambda v: len(y) * fit.loss_of(model, v, y))(u)


def test_without_transform_and_adversary_the_gradient_is_the_plain_one(linear):
    model, u, y = linear
    config = remn.Config(shift=0.0, radius=0.0, transforms=1)
    assert torch.allclose(remn.expected_gradient(model, u, y, config, stream), plain(model, u, y))


def test_a_fixed_flip_is_pulled_back(linear, monkeypatch):
    # t(u) = F u, F the mirror image: J^T g = F^T g = F g, and g is the plain gradient at F u
    model, u, y = linear
    fixed = augment.Views(*(torch.full((4,), 1) for _ in range(2)), torch.ones(4, dtype=torch.bool))
    monkeypatch.setattr(augment, "draw_views", lambda *_: fixed)
    found = remn.expected_gradient(model, u, y, remn.Config(radius=0.0, transforms=1), stream)
    assert torch.allclose(found, plain(model, u.flip(3), y).flip(3))


def test_a_fixed_shift_is_pulled_back_and_what_is_cut_away_gets_no_gradient(linear, monkeypatch):
    # with one pixel of padding, the view at row 2 is the image moved up by one: the first row is gone, zeros come in
    model, u, y = linear
    fixed = augment.Views(torch.full((4,), 2), torch.full((4,), 1), torch.zeros(4, dtype=torch.bool))
    monkeypatch.setattr(augment, "draw_views", lambda *_: fixed)
    seen = torch.cat([u[:, :, 1:], torch.zeros(4, 3, 1, 8)], dim=2)
    found = remn.expected_gradient(model, u, y, remn.Config(radius=0.0, transforms=1), stream)
    expected = torch.cat([torch.zeros(4, 3, 1, 8), plain(model, seen, y)[:, :, :-1]], dim=2)
    assert torch.allclose(found, expected)


def test_the_adversary_is_a_constant_whose_gradient_is_taken_where_it_stands(linear, monkeypatch):
    # a(u) = u / 10 would add a tenth if it were differentiated
    model, u, y = linear
    monkeypatch.setattr(remn, "adversary", lambda model, seen, *_: seen / 10)
    found = remn.expected_gradient(model, u, y, remn.Config(shift=0.0, transforms=1), stream)
    assert torch.allclose(found, plain(model, 1.1 * u, y))


def test_several_transforms_are_summed(linear, monkeypatch):
    model, u, y = linear
    mirrored = torch.arange(8) >= 4  # the second of two draws
    fixed = augment.Views(*(torch.full((8,), 1) for _ in range(2)), mirrored)
    monkeypatch.setattr(augment, "draw_views", lambda *_: fixed)
    found = remn.expected_gradient(model, u, y, remn.Config(radius=0.0, transforms=2), stream)
    assert torch.allclose(found, plain(model, u, y) + plain(model, u.flip(3), y).flip(3), atol=1e-7)


def test_the_worst_offset_raises_the_loss_within_its_radius_and_random_ones_fill_it(linear):
    model, u, y = linear
    loss = {}
    for kind in ("pgd", "random", "none"):
        config = remn.Config(inner_steps=10, inner_alpha=0.8 / 255)
        a = remn.adversary(model, u, y, kind, config, stream("a"))
        assert float(a.abs().max()) <= torch.tensor(4 / 255)
        assert float((u + a).min()) >= 0 and float((u + a).max()) <= 1
        loss[kind] = float(fit.loss_of(model, u + a, y))
    assert loss["pgd"] > max(loss["random"], loss["none"])
    assert not remn.adversary(model, u, y, "none", remn.Config(), stream("a")).any()
    a = 255 * remn.adversary(model, torch.full((1, 3, 32, 32), 0.5), y, "random", remn.Config(), stream("a"))
    assert abs(float(a.mean())) < 0.3 and abs(float(a.std()) - 4 / 3**0.5) < 0.1  # uniform on [-4, 4]


# -- the noise -----------------------------------------------------------------------------------------------


def robust_loss(model, x, y, config, draws=20):
    """CE under `draws` fresh crops, flips and worst offsets."""
    total = 0.0
    for number in range(draws):
        seen = config.view(x, stream("fresh", number))
        a = remn.adversary(model, seen, y, "pgd", config, stream("fresh a", number))
        total += float(fit.loss_of(model, seen + a, y))
    return total / draws


def test_noise_lowers_the_loss_under_fresh_transforms_and_adversaries_more_than_plain_noise_does(surrogate):
    data, config, model = surrogate
    x, y = data.x, data.labels
    find = partial(remn.find, model, x, y)
    robust, ordinary = find(config, stream), find(config.model_copy(update={"inner": "none", "shift": 0.0}), stream)
    clean, plain, best = (robust_loss(model, x + d, y, config) for d in (0 * x, ordinary, robust))
    assert best < clean and best < plain


def test_every_image_is_found_once_in_the_last_pass_also_where_batches_leave_a_rest(monkeypatch):
    data = Toy(classes=3, each=7)  # 21 images: a batch of 16 leaves 5, parts of 4 leave 1
    monkeypatch.setattr(remn, "LAST_PIXELS", 4 * 12 * 12)
    seen, original = [], remn.find

    def find(model, x, y, config, stream):
        seen.append(x)
        return original(model, x, y, config, stream)

    monkeypatch.setattr(remn, "find", find)
    change = levels(data, craft(data, surrogate_steps=2))
    last = torch.cat(seen[2:])  # two steps came before
    assert sorted(image.sum().item() for image in last) == sorted(image.sum().item() for image in data.x)
    assert [len(part) for part in seen[2:]] == [4, 4, 4, 4, 4, 1]
    assert change.flatten(1).any(1).all()


def test_the_bound_is_exact_both_signs_are_present_and_the_range_is_kept(protected):
    change = protected[1]
    assert int(change.abs().max()) == 8
    assert 0.3 < float((change[change != 0] < 0).float().mean()) < 0.7
    data = Toy()
    data.x[:8, :, :6], data.x[:8, :, 6:] = 0.0, 1.0
    d = craft(data, surrogate_steps=1)(ROWS)
    assert d.dtype == torch.float32 and float(d.abs().max()) <= float(torch.tensor(8 / 255))
    assert float((data.x + d).min()) >= 0 and float((data.x + d).max()) <= 1


@pytest.mark.parametrize("inner", ["random", "none"])
def test_the_other_inner_adversaries_give_noise_of_their_own(protected, inner):
    data, expected = protected
    change = levels(data, craft(data, inner=inner))
    assert int(change.abs().max()) == 8 and not torch.equal(change, expected)


def test_equal_seeds_give_equal_bytes_and_the_order_of_files_changes_nothing(protected):
    data, expected = protected
    shuffled = torch.randperm(len(data), generator=torch.Generator().manual_seed(1))
    again = Toy(order=shuffled)
    assert torch.equal(levels(again, craft(again)), expected[shuffled])
    assert not torch.equal(levels(data, craft(data, Tools(seed=6))), expected)


@pytest.mark.parametrize("killed_at", [1, 20, 31, 56])
def test_a_killed_search_goes_on_to_the_same_bytes(tmp_path, monkeypatch, killed_at):
    # a step takes 3 x (1 + 1) + 1 + 1 = 8 losses, a part of the last pass 6: killed in steps 1, 3, 4 and in part 2
    data = Toy()
    monkeypatch.setattr(remn, "LAST_PIXELS", 16 * 12 * 12)
    monkeypatch.setattr(remn, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(remn, "estimate", lambda *_: 0.0)
    expected = levels(data, craft(data))
    original, calls = fit.loss_of, iter(range(10**6))

    def dies(model, x, y):
        if next(calls) == killed_at:
            raise KeyboardInterrupt
        return original(model, x, y)

    monkeypatch.setattr(fit, "loss_of", dies)
    with pytest.raises(KeyboardInterrupt):
        craft(data, Tools(seed=5, work=tmp_path))
    resumed = []
    monkeypatch.setattr(fit, "loss_of", lambda *args: resumed.append(1) or original(*args))
    assert torch.equal(levels(data, craft(data, Tools(seed=5, work=tmp_path))), expected)
    assert len(resumed) == 66 - killed_at // 8 * 8 if killed_at < 48 else 66 - 54


# -- settings ------------------------------------------------------------------------------------------------


def paper(name):
    fields = load_preset("protect", name)
    assert fields.pop("method") == "remn"
    return remn.Config(**fields)


def test_the_published_settings_cost_what_they_are_known_to():
    # 5,000 steps of 128 of 50,000 images: 12.8 visits x (10 x 5 x (10 + 1) + 10 + 1) + 550; SEM 12.8 x (50 + 11) + 50
    assert remn.passes(paper("remn-paper"), 50_000) == pytest.approx(12.8 * 561 + 550)
    assert remn.passes(paper("sem-paper"), 50_000) == pytest.approx(12.8 * 61 + 50)


def test_passes_are_those_that_happen(monkeypatch):
    # every loss is followed by its gradient; a view of a repeated batch counts each copy
    data, seen, original = Toy(), [], fit.loss_of
    config = remn.Config(**QUICK)

    def counts(model, x, y):
        seen.append(len(x))
        return original(model, x, y)

    monkeypatch.setattr(fit, "loss_of", counts)
    monkeypatch.setattr(remn, "estimate", lambda *_: 0.0)
    remn.generate(data, config, Tools(seed=5))
    assert sum(seen) / len(data) == pytest.approx(remn.passes(config, len(data)))


def test_the_cost_is_said_before_the_search_starts():
    class Heard(Progress):
        lines = ()

        def say(self, text):
            self.lines += (text,)

        def start(self, *_):
            self.lines += ("start",)

    heard = Heard()
    tools = Tools(seed=5, progress=heard)
    craft(Toy(), tools, surrogate_steps=1)
    assert "forward and backward passes an image" in heard.lines[0] and heard.lines[1] == "start"
    assert tools.notes["passes_per_image"] == round(remn.passes(remn.Config(**QUICK | {"surrogate_steps": 1}), 48), 1)


def test_the_learning_rate_falls_twice():
    config = remn.Config(surrogate_steps=10, lr=1.0)
    assert [remn.rate(step, config) for step in range(10)] == pytest.approx([1] * 4 + [0.1] * 4 + [0.01] * 2)


def test_an_adversary_stronger_than_the_noise_is_refused():
    with pytest.raises(ValueError, match="radius is above eps"):
        remn.Config(radius=9 / 255)


def test_labels_are_needed():
    for data in (Toy().without_labels(), Toy(classes=1)):
        with pytest.raises(UsageError, match="two class folders"):
            remn.generate(data, remn.Config(), Tools())
