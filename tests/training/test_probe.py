"""The probe: the optimum of its objective, whatever the features' scale; the published protocol; on which images."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional as F
from toy import Toy

from ue_audit.errors import UsageError
from ue_audit.tools import Tools
from ue_audit.training import probe


def blobs(n=90, features=6, classes=3, seed=0):
    """Overlapping clouds around one centre per class: h (N,F), y (N,)."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    centres = torch.randn(classes, features, generator=generator)
    return centres[y] + 1.5 * torch.randn(n, features, generator=generator), y


def mean_colour(x):
    return x.mean((2, 3))


def circle(x):
    """Brightness as a direction, for a probe that looks at angles."""
    angle = 10 * x.mean((1, 2, 3))
    return torch.stack([angle.cos(), angle.sin()], 1)


def right(predict, data):
    return float((predict(data.x).argmax(1) == data.labels).float().mean())


def test_logistic_is_where_the_gradient_of_its_objective_is_zero():
    h, y = blobs()
    line = probe.logistic(h, y, 3, decay=0.01)
    deviation = h.std(0, correction=0)
    standard = (line.weight * deviation).requires_grad_()  # weights of (h - mean) / deviation
    bias = (line.bias + line.weight @ h.mean(0)).requires_grad_()
    z = (h - h.mean(0)) / deviation
    loss = F.cross_entropy(z @ standard.T + bias, y) + 0.005 * standard.square().sum()
    assert max(g.abs().max() for g in torch.autograd.grad(loss, (standard, bias))) < 1e-4


def test_with_two_classes_and_one_balanced_sign_feature_the_optimum_is_known():
    # h = +1 in 3 of 4 images of class 1, in 1 of 4 of class 0: without decay, log-odds of class 1 are +- log 3
    h = torch.tensor([[-1.0], [-1.0], [-1.0], [1.0], [1.0], [1.0], [1.0], [-1.0]])
    line = probe.logistic(h, torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), 2, decay=0.0)
    odds = F.linear(torch.tensor([[-1.0], [1.0]]), *line).diff(dim=1).flatten()
    assert odds.tolist() == pytest.approx([-math.log(3), math.log(3)], abs=1e-3)


def test_the_scale_and_the_place_of_features_and_constant_ones_change_nothing():
    h, y = blobs()
    moved = torch.cat([h * torch.logspace(-2, 2, 6) + 3, torch.full((len(h), 1), 7.0)], 1)
    expected = F.linear(h, *probe.logistic(h, y, 3, decay=0.01))
    assert torch.allclose(F.linear(moved, *probe.logistic(moved, y, 3, decay=0.01)), expected, atol=1e-3)


def test_the_order_of_the_images_changes_nothing_but_rounding():
    h, y = blobs()
    order = torch.randperm(len(h), generator=torch.Generator().manual_seed(1))
    a, b = probe.logistic(h, y, 3, 0.01), probe.logistic(h[order], y[order], 3, 0.01)
    assert torch.allclose(a.weight, b.weight, atol=1e-4)


@pytest.mark.parametrize("solver", ["logistic", "sgd", "knn"])
def test_every_probe_reads_a_class_off_good_features_and_gives_the_same_bits_twice(solver):
    data, recipe = Toy(), probe.Recipe(probe=solver, probe_epochs=30, probe_batch=16)
    encode = circle if solver == "knn" else mean_colour
    one, two = (probe.fit(encode, data, recipe, Tools(seed=4)) for _ in range(2))
    assert right(one, data) > 0.95
    assert torch.equal(one(data.x), two(data.x))
    assert one(data.x).shape == (48, 3) and one(data.x).dtype == torch.float32


def test_sgd_is_transcribed_from_its_description_when_nothing_is_cropped(monkeypatch):
    data, recipe = Toy(each=4), probe.Recipe(probe="sgd", probe_epochs=4, probe_lr=0.5, probe_batch=6)
    monkeypatch.setattr(probe.views, "crop", lambda x, drawn: x)
    line = probe.sgd(mean_colour, data, recipe, Tools(seed=2))

    weight, bias = torch.zeros(3, 3), torch.zeros(3)
    speed_w, speed_b = torch.zeros(3, 3), torch.zeros(3)
    for epoch, lr in enumerate([0.5, 0.5, 0.5, 0.5 * 0.2 * 0.2]):  # 3/4 of the passes done: both drops at 60 and 75 %
        order = torch.randperm(12, generator=Tools(seed=2).generator("probe", "order", epoch))
        for rows in (order[:6], order[6:]):
            h, y = mean_colour(data.x[rows]), F.one_hot(data.labels[rows], 3).float()
            error = (torch.softmax(h @ weight.T + bias, 1) - y) / 6
            speed_w, speed_b = 0.9 * speed_w + error.T @ h, 0.9 * speed_b + error.sum(0)
            weight, bias = weight - lr * speed_w, bias - lr * speed_b
    assert torch.allclose(line.weight, weight, atol=1e-5) and torch.allclose(line.bias, bias, atol=1e-5)


def test_the_rate_falls_after_60_75_and_90_of_100_passes():
    rates = [probe.rate(epoch, probe.Recipe()) for epoch in range(100)]
    expected = [1.0] * 60 + [0.2] * 15 + [0.04] * 15 + [0.008] * 10
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize(
    ("on", "size", "reading"), [("clean", 9, "optimistic"), ("training", 6, "pessimistic"), ("own", 12, "own images")]
)
def test_it_is_fitted_on_what_its_name_says_and_the_note_says_so(on, size, reading):
    data, tools = Toy(each=2), Tools()
    data.clean, data.own = Toy(each=3), Toy(each=4)
    images = probe.labelled(data, probe.Recipe(probe_on=on), tools)
    assert len(images) == size and (images is data) == (on == "training")
    assert tools.notes["probe"] == f"{reading}: logistic on {size} {on} images"


def test_what_it_would_be_fitted_on_must_be_there():
    data = Toy()
    data.clean = data.own = None
    with pytest.raises(UsageError, match="clean originals") as caught:
        probe.labelled(data, probe.Recipe(), Tools())
    assert "probe_on=training" in caught.value.hint, "an optimistic answer is never quietly a pessimistic one"
    with pytest.raises(UsageError, match="own"):
        probe.labelled(data, probe.Recipe(probe_on="own"), Tools())


def test_without_two_classes_there_is_nothing_to_probe():
    for images, found in ((Toy().without_labels(), "without classes"), (Toy(classes=1), "1 class")):
        with pytest.raises(UsageError, match=found):
            probe.labelled(SimpleNamespace(clean=images), probe.Recipe(), Tools())
