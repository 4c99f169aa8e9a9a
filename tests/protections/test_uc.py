"""UC on a toy set: one map per cluster, no label looked at, features on their way to the next centre."""

import pytest
import torch
from torch.nn import functional as F
from toy import Toy, levels

from ue_audit.errors import UsageError
from ue_audit.protections import uc
from ue_audit.tools import Tools
from ue_audit.training import encoders, generator

OWN = {"epochs": 1, "min_surrogate_steps": 8, "batch": 16, "min_accuracy": 0.0}
QUICK = {"clusters": 3, "epochs": 1, "min_steps": 4, "batch": 8, "width": 4, "blocks": 1, "own": OWN}


class Sensitive(torch.nn.Module):
    """A frozen encoder whose features are 12 smooth responses to small filters, drawn once."""

    def __init__(self):
        super().__init__()
        draw = torch.Generator().manual_seed(1)
        self.register_buffer("bank", torch.randn(12, 3, 3, 3, generator=draw))

    def forward(self, x):
        return F.silu(F.conv2d(x - 0.5, self.bank)).mean((2, 3))


@pytest.fixture
def stub(monkeypatch):
    """`--encoder` names the filters above."""
    monkeypatch.setattr(encoders, "load", lambda config, data, tools: encoders.Encoder(Sensitive()))


def craft(data, tools=None, **more):
    return uc.generate(data, uc.Config(**QUICK | more), tools or Tools(seed=5))


def test_one_map_for_all_images_of_a_cluster_and_another_for_the_next(stub):
    data, tools = Toy(), Tools(seed=5)
    problem = uc.pose(data, uc.Config(**QUICK), tools)
    maps = uc.craft(problem)[torch.arange(3)]
    rows = torch.arange(len(data))
    d = craft(data)(rows)  # x lies so far from 0 and 1 that nothing is clipped
    assert torch.equal(d, maps[problem.members])
    assert all((maps[a] - maps[b]).abs().max() > 4 / 255 for a, b in ((0, 1), (0, 2), (1, 2)))
    assert sorted(tools.notes["cluster_sizes"], reverse=True) == tools.notes["cluster_sizes"]
    assert sum(tools.notes["cluster_sizes"]) == len(data)


def test_the_bound_is_exact_in_whole_levels_and_reached(stub):
    data = Toy()
    data.x[:8, :, :6], data.x[:8, :, 6:] = 0.0, 1.0
    delta, rows = craft(data, min_steps=12, lr=0.03), torch.arange(len(data))
    d = delta(rows)
    assert d.dtype == torch.float32 and d.shape == data.x.shape
    assert float(d.abs().max()) <= float(torch.tensor(16 / 255))
    assert float((data.x + d).min()) >= 0 and float((data.x + d).max()) <= 1
    assert torch.equal(delta(rows[3:5]), d[3:5])
    assert int(levels(data, delta).abs().max()) == 16


@pytest.mark.parametrize("images", ["cluster", "all"])
@pytest.mark.parametrize("bound", ["tanh", "clip"])
def test_maps_bring_features_to_the_next_centre(stub, images, bound):
    """Much less divergence from the goal than without the map, in every cluster, after 8-bit rounding.

    The clusters are 77 levels of grey apart, hence the large budget.
    """
    data, tools = Toy(classes=2, each=24), Tools(seed=5)
    fields = {"clusters": 2, "min_steps": 40, "lr": 0.02, "shift": 0.0, "eps": 64 / 255}
    fields |= {"images": images, "bound": bound}
    problem = uc.pose(data, uc.Config(**QUICK | fields), tools)
    delta = craft(data, tools, **fields)
    rows, scale = torch.arange(len(data)), problem.temperature
    before = torch.from_numpy(encoders.features(problem.encode, data, rows, tools)).clone()
    after = torch.from_numpy(encoders.features(problem.encode, data, rows, tools, delta))
    for cluster in (0, 1):
        goal, of = problem.centres[1 - cluster].float() / scale, problem.members == cluster
        apart = [uc.divergence(goal, h[of] / scale).mean() for h in (before, after)]
        assert apart[1] < 0.5 * apart[0]
    if images == "cluster":  # one map for all must suit those that are at the goal already
        assert tools.notes["left"] >= tools.notes["moved"] > 0.5 and "warnings" not in tools.notes


def test_divergence_is_that_of_torch_and_its_direction_that_of_the_paper():
    goal, features = torch.tensor([0.0, 1.0, 3.0]), torch.tensor([[0.5, -1.0, 2.0], [0.0, 1.0, 3.0]])
    expected = F.kl_div(features.log_softmax(1), goal.softmax(0).expand(2, 3), reduction="none").sum(1)
    torch.testing.assert_close(uc.divergence(goal, features), expected)
    assert float(uc.divergence(goal, features)[1]) == pytest.approx(0, abs=1e-7)
    p, q = [1 / 4, 3 / 4], [1 / 2, 1 / 2]  # by hand: 1/4 log 1/2 + 3/4 log 3/2
    by_hand = uc.divergence(torch.tensor(p).log(), torch.tensor([q]).log())
    assert float(by_hand) == pytest.approx(0.25 * torch.tensor(0.5).log() + 0.75 * torch.tensor(1.5).log())


def test_the_gradient_is_that_of_the_mean_loss_whatever_is_encoded_together(stub, monkeypatch):
    problem = uc.pose(Toy(), uc.Config(**QUICK), Tools(seed=5))
    d = 0.02 * torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    loss, slope = uc.towards(problem, 1)(d, 0)
    monkeypatch.setattr(encoders, "CHUNK_PIXELS", 3 * 12**2)
    again = uc.towards(problem, 1)(d, 0)
    assert again[0] == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(again[1], slope, rtol=1e-4, atol=1e-9)
    step = 1e-3 * slope / slope.norm()
    rise = uc.towards(problem, 1)(d + step, 0)[0] - uc.towards(problem, 1)(d - step, 0)[0]
    assert rise == pytest.approx(2 * float((slope * step).sum()), rel=0.02)


def test_labels_shuffled_or_absent_change_no_byte(stub):
    data, shuffled = Toy(), Toy()
    expected = levels(data, craft(data))
    shuffled.labels = data.labels[torch.randperm(len(data), generator=torch.Generator().manual_seed(0))]
    assert torch.equal(levels(shuffled, craft(shuffled)), expected)
    flat = Toy()
    flat.labels, flat.classes = None, ()
    assert torch.equal(levels(flat, craft(flat)), expected)


def test_equal_seeds_give_equal_bytes_and_the_order_of_files_changes_nothing():
    data, tools = Toy(), Tools(seed=5)
    expected = levels(data, craft(data, tools))  # with an encoder of its own
    assert tools.notes["label_agnostic"] is False
    shuffled = torch.randperm(len(data), generator=torch.Generator().manual_seed(1))
    again = Toy(order=shuffled)
    assert torch.equal(levels(again, craft(again)), expected[shuffled])
    assert not torch.equal(levels(data, craft(data, Tools(seed=6))), expected)


@pytest.mark.parametrize("killed_at", [0, 2, 4, 9])
def test_a_killed_crafting_goes_on_to_the_same_bytes(stub, tmp_path, monkeypatch, killed_at):
    data = Toy()
    expected, original, calls = levels(data, craft(data)), uc.divergence, iter(range(10**6))
    monkeypatch.setattr(generator, "SAVE_SECONDS", 0.0)

    def dies(goal, features):
        if next(calls) == killed_at:  # 4 steps a map or more
            raise KeyboardInterrupt
        return original(goal, features)

    monkeypatch.setattr(uc, "divergence", dies)
    with pytest.raises(KeyboardInterrupt):
        craft(data, Tools(seed=5, work=tmp_path))
    monkeypatch.setattr(uc, "divergence", original)
    resumed = Tools(seed=5, work=tmp_path)
    steps = []
    monkeypatch.setattr(generator, "rate", lambda *a, rate=generator.rate: steps.append(a) or rate(*a))
    assert torch.equal(levels(data, craft(data, resumed)), expected)
    everything = sum(uc._steps(n, uc.Config(**QUICK))[0] for n in resumed.notes["cluster_sizes"])
    assert len(steps) == everything - killed_at


def test_maps_that_move_nothing_are_a_warning(stub):
    tools = Tools(seed=5)
    craft(Toy(), tools, eps=0.5 / 255)
    assert tools.notes["moved"] <= tools.notes["left"] < 0.5 and "raise epochs" in tools.notes["warnings"][-1]


def test_as_many_clusters_as_there_are_different_images(stub):
    data, tools = Toy(classes=1, each=4), Tools(seed=5)
    data.x[2:] = data.x[:2]
    craft(data, tools, clusters=10)
    assert tools.notes["cluster_sizes"] == [2, 2]
    data.x[:] = data.x[0]
    with pytest.raises(UsageError, match="tells apart"):
        craft(data, clusters=10)


def test_labels_or_an_encoder_are_needed():
    with pytest.raises(UsageError, match="expected labels"):
        uc.generate(Toy().without_labels(), uc.Config(), Tools())


def test_the_cost_is_that_of_the_published_loop():
    """500 passes an image where every map is trained on all images, 50 where on its cluster; twice encoded."""
    fields = {"encoder": "resnet50", "epochs": 50, "min_steps": 0, "batch": 256}
    for images, expected in (("all", 500), ("cluster", 50)):
        passes = uc.passes(uc.Config(**fields, images=images), 25_600)
        assert passes == pytest.approx(expected + 2 / 3, rel=1e-6)


def test_an_estimate_needs_no_training(monkeypatch):
    monkeypatch.setattr(encoders, "load", None)
    assert 0 < uc.estimate(Toy(), uc.Config(**QUICK), Tools()) < 60
