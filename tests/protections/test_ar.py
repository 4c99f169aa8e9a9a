"""AR: processes, their filters and the search for them, all without a network."""

import pytest
import torch
from torch.nn import functional as F
from toy import Toy, levels

from ue_audit.errors import UsageError
from ue_audit.protections import ar
from ue_audit.tools import Tools

QUICK = {"candidates": 512, "response": 3.0}


def grey(**kind):
    data = Toy(**kind)
    data.x = torch.full_like(data.x, 128 / 255)
    return data


def craft(data, tools=None, **more):
    return ar.generate(data, ar.Config(**QUICK | more), tools or Tools(seed=0))


def processes(data, delta):
    return torch.tensor([delta.tools.notes["processes"][name] for name in data.classes], dtype=torch.float64)


def test_a_map_is_filled_in_raster_order_by_weighted_sums():
    # the definition, pixel by pixel; weights of 1/8 keep any map bounded
    generator = torch.Generator().manual_seed(0)
    b = torch.rand(2, 3, 8, generator=generator).double()
    b /= b.sum(-1, keepdim=True)
    side, n = 6, 10
    start = torch.randn(2, 3, 4 * n - 4, generator=generator)
    u = torch.zeros(2, 3, n, n).double()
    above, beside = start.split([2 * n, 2 * n - 4], -1)
    u[..., :2, :], u[..., 2:, :2] = above.unflatten(-1, (2, n)), beside.unflatten(-1, (n - 2, 2))
    for i in range(2, n):
        for j in range(2, n):
            window = u[..., i - 2 : i + 1, j - 2 : j + 1].flatten(2)
            u[..., i, j] = (window[..., :8] * b).sum(-1)
    assert torch.allclose(ar.run(b, start, side), u[..., 4:, 4:], atol=1e-12)


@pytest.fixture(scope="module")
def made():
    data = grey(classes=4, each=6, size=32)
    return data, craft(data)


def test_the_processes_in_the_manifest_are_the_ones_used(made):
    data, delta = made
    b = processes(data, delta)
    assert b.shape == (4, 3, 8) and torch.isfinite(b).all()
    assert torch.allclose(b.sum(-1), torch.ones(4, 3).double(), atol=1e-5)
    assert torch.equal(b, delta.processes)
    assert 0 < delta.tools.notes["least_response"] < 1e3  # the first class, which has none to be heard by, aside


def test_the_filter_of_a_class_is_silent_on_its_maps_and_on_no_other_even_after_rounding(made):
    data, delta = made
    filters, own = ar.filters(processes(data, delta)).float(), F.one_hot(data.labels, 4).bool()
    for maps, share in ((delta(torch.arange(24)), 1e-4), (levels(data, delta).float() / 255, 0.9)):
        heard = F.conv2d(maps, filters).abs().mean((2, 3))  # (24,4)
        assert torch.equal(heard.argmin(1), data.labels)
        assert float(heard[own].max()) < share * float(heard[~own].min())


def test_filters_of_earlier_classes_respond_to_the_maps_of_later_ones(made):
    data, delta = made
    filters = ar.filters(processes(data, delta)).float()
    for label in range(1, 4):
        maps = delta(torch.arange(24)[data.labels == label])
        responses = F.relu(F.conv2d(maps, filters[:label])).sum((2, 3))
        assert float(responses.mean(0).min()) > QUICK["response"] / 2  # the search holds three other maps to it


@pytest.mark.parametrize(("height", "width"), [(16, 16), (32, 32), (50, 70), (64, 64)])
def test_the_norm_grows_with_the_sides_at_any_size(made, height, width):
    norm = made[1].native(3, torch.rand(3, height, width)).norm()
    assert float(norm) == pytest.approx((height * width) ** 0.5 / 32, abs=1e-5)
    assert float(made[1](torch.tensor([3])).norm()) == pytest.approx(1, abs=1e-5)


def test_wide_images_wear_the_process_in_tiles(made):
    data, delta = made
    change = delta.native(0, torch.rand(3, 64, 96)).double()
    b = processes(data, delta)[0]
    for tile in change.unfold(1, 32, 32).unfold(2, 32, 32).flatten(1, 2).transpose(0, 1):  # (3,32,32) each
        silent = F.conv2d(tile[None], ar.filters(b[None]).transpose(0, 1), groups=3).abs().max()
        assert float(silent) < 1e-5 < float(tile.abs().max())


def test_a_map_depends_on_seed_class_and_name_only(made):
    data, delta = made
    few = delta(torch.arange(24))
    assert torch.equal(delta(torch.tensor([7])), few[7:8])
    shuffled = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    assert torch.equal(craft(Toy(classes=4, each=6, size=32, order=shuffled))(torch.arange(24)), few[shuffled])
    assert not torch.equal(craft(data, Tools(seed=1))(torch.arange(24)), few)


def test_a_class_that_joins_at_the_end_changes_no_other(made):
    data, delta = made
    found = ar.search((*data.classes, "zebras with a space, é"), ar.Config(**QUICK), Tools(seed=0))
    assert all(torch.equal(found[name].taps, b) for name, b in zip(data.classes, delta.processes, strict=True))
    again = ar.search(data.classes[::-1], ar.Config(**QUICK), Tools(seed=0))
    assert all(torch.equal(again[name].taps, found[name].taps) for name in data.classes)


def test_the_search_takes_the_first_that_is_heard_and_else_the_loudest():
    # asked for nothing, the first bounded candidate is taken; asked for too much, the best of all
    others = [torch.full((3, 8), 1 / 8).double()]
    config = ar.Config(**QUICK)
    first, best = (ar._process(others, asked, config, torch.Generator().manual_seed(2)) for asked in (0.0, 1e9))
    assert 0 < first.least < best.least


def test_a_search_goes_on_from_the_classes_it_had_found(tmp_path, monkeypatch):
    config, classes = ar.Config(**QUICK), ("a", "b")
    found = ar.search(classes, config, Tools(seed=0, work=tmp_path))
    Tools(work=tmp_path).save("processes", lambda: {"a": list(found["a"])})
    original, searched = ar._process, []

    def counted(others, *more):
        searched.append(len(others))
        return original(others, *more)

    monkeypatch.setattr(ar, "_process", counted)
    again = ar.search(classes, config, Tools(seed=0, work=tmp_path))
    assert searched == [1] and all(torch.equal(again[name].taps, found[name].taps) for name in classes)


def test_a_bound_that_no_process_keeps_is_refused(monkeypatch):
    monkeypatch.setattr(ar, "MOST", 512)
    with pytest.raises(UsageError, match="stayed below the norm"):
        craft(grey(), bound=1e-9)


def test_no_norm_means_no_change_and_labels_are_needed(made):
    assert not levels(made[0], craft(made[0], l2=0.0)).any()
    with pytest.raises(UsageError, match="two class folders"):
        craft(Toy().without_labels())
