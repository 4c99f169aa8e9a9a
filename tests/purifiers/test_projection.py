"""The projection: its directions are gone, and with them a class-wise linear pattern; order, batches, refusals."""

import pytest
import torch
from toy import Toy

from ue_audit.config import load_preset
from ue_audit.errors import UsageError
from ue_audit.purifiers import projection
from ue_audit.tools import Batch, Tools

QUICK = {"iterations": 8}


class Patterned(Toy):
    """Noise images that say nothing of their class, with a pattern of each class on top: 8 levels, in patches of 3."""

    def __init__(self, each=80, seed=0, order=None):
        super().__init__(classes=3, each=each, size=12, seed=seed, order=order)
        noise = torch.rand(len(self), 3, 12, 12, generator=torch.Generator().manual_seed(seed + 1))
        self.clean = 0.25 + 0.5 * (noise if order is None else noise[order])
        coarse = torch.randint(0, 2, (3, 3, 4, 4), generator=torch.Generator().manual_seed(9))
        self.pattern = (16 * coarse - 8).repeat_interleave(3, 2).repeat_interleave(3, 3) / 255
        self.x = self.clean + self.pattern[self.labels]


def everything(data):
    return Batch(data.x, data.labels, torch.arange(len(data)), data.keys)


def purified(data, **settings):
    return projection.build(data, projection.Config(**settings), Tools())(everything(data))


def accuracy(data, x):
    """On the second half of the images, of a linear classifier fitted on the first, pixels centred."""
    half, x = len(data) // 2, (x - x.mean(0)).flatten(1)
    weights = torch.zeros(3, x.shape[1], requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=40, line_search_fn="strong_wolfe")

    def closure():
        loss = torch.nn.functional.cross_entropy(x[:half] @ weights.T, data.labels[:half])
        loss = loss + 0.05 * weights.square().sum()
        weights.grad = torch.autograd.grad(loss, weights)[0]
        return loss

    optimiser.step(closure)
    return float(((x[half:] @ weights.T).argmax(1) == data.labels[half:]).float().mean())


@pytest.mark.parametrize("settings", [{}, {"solver": "sgd", "penalty": 0.0, "lr": 0.05, "min_steps": 200}])
def test_a_class_wise_pattern_goes(settings):
    data = Patterned()
    x_le = purified(data, **settings)
    assert accuracy(data, data.x) > 0.9 and accuracy(data, x_le) < 0.55  # of three classes
    kept = x_le.mean(0), *(x_le[data.labels == k].mean(0) for k in range(3))
    before = data.x.mean(0), *(data.x[data.labels == k].mean(0) for k in range(3))
    shared = [float((b - before[0]).norm()) for b in before[1:]]
    assert all(float((k - kept[0]).norm()) < 0.6 * s for k, s in zip(kept[1:], shared, strict=True))


@pytest.mark.parametrize("around", ["mean", "black"])
def test_nothing_is_left_along_the_directions(around):
    data, config = Patterned(), projection.Config(around=around)
    centre = projection.mean_image(data, torch.arange(len(data))) if around == "mean" else torch.zeros(432)
    weights = projection.by_lbfgs(data, torch.arange(len(data)), centre, config, Tools())
    q = projection.basis(weights)
    torch.testing.assert_close(q.T @ q, torch.eye(q.shape[1]), rtol=0, atol=1e-5)
    projected = projection.project(data.x.flatten(1), centre, q)
    assert float(((projected - centre) @ q).abs().max()) < 1e-5
    assert float(((projected - centre) @ weights.T).abs().max()) < 1e-4
    torch.testing.assert_close(projected.clamp(0, 1).view_as(data.x), purified(data, around=around), atol=1e-4, rtol=0)


def test_a_direction_that_is_not_used_is_left_alone():
    """Rows (1,0,0), (0,1,0) and their sum negated span a plane: x_3 stays."""
    q = projection.basis(torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [-1.0, -1.0, 0]]))
    assert q.shape == (3, 2)
    left = projection.project(torch.tensor([[3.0, 4.0, 5.0]]), torch.zeros(3), q)
    torch.testing.assert_close(left, torch.tensor([[0.0, 0.0, 5.0]]), rtol=0, atol=1e-6)


def test_by_lbfgs_is_the_minimum():
    """The gradient, written out: W penalty + sum_i (p_i - e_yi) (x_i - c)^T / N = 0."""
    data, order = Patterned(each=20), torch.arange(60)
    centre = projection.mean_image(data, order)
    torch.testing.assert_close(centre, data.x.flatten(1).mean(0))
    config = projection.Config(iterations=300, penalty=0.3)
    weights = projection.by_lbfgs(data, order, centre, config, Tools())
    x = data.x.flatten(1) - centre
    error = (x @ weights.T).softmax(1) - torch.eye(3)[data.labels]
    assert float((config.penalty * weights + error.T @ x / 60).abs().max()) < 1e-4


@pytest.mark.parametrize("solver", ["lbfgs", "sgd"])
def test_order_company_and_repetition_do_not_matter(solver, monkeypatch):
    quick = {**QUICK, "solver": solver, "min_steps": 10, "epochs": 1, "batch": 32}
    data, turned = Patterned(each=20), torch.randperm(60, generator=torch.Generator().manual_seed(3))
    first = purified(data, **quick)
    assert torch.equal(purified(data, **quick), first)
    assert torch.equal(purified(Patterned(each=20, order=turned), **quick)[turned.argsort()], first)
    purify = projection.build(data, projection.Config(**quick), Tools())
    whole = everything(data)
    alone = torch.cat([purify(Batch(whole.x[i : i + 1], None, whole.rows[i : i + 1], [""])) for i in range(5)])
    torch.testing.assert_close(alone, first[:5], rtol=0, atol=1e-6)
    monkeypatch.setattr(projection, "CHUNK_PIXELS", 7 * 144)
    torch.testing.assert_close(purified(data, **quick), first, rtol=0, atol=1e-4)


def test_refusals():
    with pytest.raises(UsageError, match="images without class folders"):
        projection.build(Toy().without_labels(), projection.Config(), Tools())
    with pytest.raises(UsageError, match="1 class"):
        projection.build(Toy(classes=1), projection.Config(), Tools())


def test_paper_preset():
    fields = load_preset("purify", "projection-paper")
    assert fields.pop("method") == "projection"
    config = projection.Config(**fields)
    assert (config.around, config.solver, config.penalty) == ("black", "sgd", 0)
    assert (config.lr, config.batch, config.epochs) == (0.1, 1024, 20)
    assert all(getattr(config, key) != projection.Config.model_fields[key].default for key in fields)
    assert projection.passes(config, 100) == 0
