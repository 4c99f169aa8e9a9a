"""PIL: the linear surrogate, the signed steps and what they do to its outputs."""

import math

import pytest
import torch
from torch.nn import functional as F
from toy import Toy, levels

from ue_audit.errors import UsageError
from ue_audit.protections import pil
from ue_audit.tools import Tools
from ue_audit.training import fit

QUICK = {"epochs": 4, "batch": 16, "steps": 8}
LEARNT = {"epochs": 30, "lr": 0.05}


def tinted():
    """A class is a tint: levels of grey are all alike to a linear classifier without biases."""
    data = Toy(classes=3, each=16)
    data.x[torch.arange(48), data.labels] -= 51 / 255
    return data


def craft(data, tools=None, **more):
    return pil.generate(data, pil.Config(**QUICK | more), tools or Tools(seed=5))


@pytest.fixture(scope="module")
def made():
    data = tinted()
    return data, craft(data, **LEARNT)


def test_the_gradient_is_that_of_the_objective():
    generator = torch.Generator().manual_seed(0)
    n, x = torch.randn(2, 4, 12, generator=generator, dtype=torch.float64)
    m = torch.randn(3, 12, generator=generator, dtype=torch.float64)
    y = torch.tensor([0, 2, 1, 2])
    n.requires_grad_(True)
    uniform = torch.full((4, 3), 1 / 3, dtype=torch.float64)
    spread = F.kl_div(((x - n) @ m.T).log_softmax(1), uniform, reduction="none").sum()
    (0.7 * F.cross_entropy(n @ m.T, y, reduction="sum") + 0.3 * spread).backward()
    found = pil.gradient(n.detach(), x @ m.T, F.one_hot(y, 3).double(), m, 0.7)
    assert torch.allclose(found, n.grad, atol=1e-12)


def test_the_surrogate_learns_the_clean_images(made):
    data, delta = made
    logits = data.x.flatten(1).double() @ delta.surrogate.T
    assert float((logits.argmax(1) == data.labels).float().mean()) > 0.6


def test_the_map_looks_like_the_class_and_the_image_like_nothing(made):
    data, delta = made
    m, rows = delta.surrogate.float(), torch.arange(len(data))
    start = craft(data, **LEARNT, steps=0)(rows)  # -n before any step, of the same surrogate
    losses, entropies = [], []
    for change in (start, delta(rows)):
        losses.append(float(F.cross_entropy(-change.flatten(1) @ m.T, data.labels)))
        p = ((data.x + change).flatten(1) @ m.T).softmax(1)
        entropies.append(float(-(p * p.log()).sum(1).mean()))
    assert losses[1] < 0.9 * losses[0]
    assert entropies[0] < entropies[1] <= math.log(3) + 1e-6


def test_the_bound_is_exact_and_both_signs_are_present(made):
    changed = levels(*made)
    assert int(changed.abs().max()) == 8
    assert 0.25 < float((changed[changed != 0] < 0).float().mean()) < 0.75


def test_a_map_depends_on_seed_names_and_images_only():
    data = Toy()
    expected = craft(data)(torch.arange(48))
    assert torch.equal(craft(data)(torch.tensor([7])), expected[7:8])
    shuffled = torch.randperm(48, generator=torch.Generator().manual_seed(1))
    assert torch.equal(craft(Toy(order=shuffled))(torch.arange(48)), expected[shuffled])
    assert not torch.equal(craft(data, Tools(seed=6))(torch.arange(48)), expected)


@pytest.mark.parametrize("killed_at", [0, 5, 11])
def test_a_killed_training_goes_on_to_the_same_bytes(tmp_path, monkeypatch, killed_at):
    data, calls = Toy(), iter(range(10**6))
    expected = craft(data)(torch.arange(48))
    monkeypatch.setattr(pil, "SAVE_EVERY", 0.0)
    original = fit.rate

    def dies(*step):
        if next(calls) == killed_at:  # 3 steps an epoch
            raise KeyboardInterrupt
        return original(*step)

    monkeypatch.setattr(fit, "rate", dies)
    with pytest.raises(KeyboardInterrupt):
        craft(data, Tools(seed=5, work=tmp_path))
    monkeypatch.setattr(fit, "rate", original)
    assert torch.equal(craft(data, Tools(seed=5, work=tmp_path))(torch.arange(48)), expected)
    monkeypatch.setattr(fit, "rate", dies)  # trained: nothing is left to do
    calls = iter([killed_at])
    assert torch.equal(craft(data, Tools(seed=5, work=tmp_path))(torch.arange(48)), expected)


def test_few_images_one_of_a_class_and_wide_ones_work():
    data = Toy(classes=2, each=3, size=40)
    data.labels = torch.tensor([0, 0, 0, 0, 0, 1])
    change = levels(data, craft(data))
    assert change.flatten(1).any(1).all()


def test_labels_are_needed():
    with pytest.raises(UsageError, match="two class folders"):
        craft(Toy().without_labels())
