"""Every registered learner: what it yields, that seeds and kills are what they should be, and what it asks for.

A method's quick settings are `QUICK` in its own test file.
"""

import importlib
import math

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import squeezenet1_1
from toy import Toy

from ue_audit import methods
from ue_audit.errors import ResourceError, UsageError
from ue_audit.tools import Tools
from ue_audit.training import contrastive_fit, supervised_fit

NAMES = methods.names("learner")
SEEDLESS = {"pretrained_probe"}  # learners in which nothing is drawn
EVERY = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Of an encoder that knows nothing."""
    path = tmp_path_factory.mktemp("weights") / "encoder"
    torch.manual_seed(0)
    save_file(squeezenet1_1().state_dict(), path)
    return {"encoder": path}


@pytest.fixture(autouse=True)
def always_saved(monkeypatch):
    for loop in (supervised_fit, contrastive_fit):
        monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)


def config_of(name):
    quick = getattr(importlib.import_module(f"learners.test_{name}"), "QUICK", {})
    fields = quick if isinstance(quick, dict) else quick.model_dump(exclude_unset=True)
    return methods.configure("learner", name, {"test": fields}).config


def toy():
    """24 images, beside them the clean ones and some of the attacker's own."""
    data = Toy(each=8)
    data.clean, data.own = data, Toy(each=7, seed=5)
    return data


def fit(name, tools, data=None):
    return methods.load("learner", name).fit(data or toy(), config_of(name), tools)


def ends(name, tools):
    """Number, loss and logits of every epoch."""
    x = Toy(seed=3).x[:5]
    return [(e.number, e.loss, e.predict(x)) for e in fit(name, tools)]


def equal(found, due):
    """Whether the last of `due` were found, to the bit."""
    return 0 < len(found) <= len(due) and all(
        a[:2] == b[:2] and torch.equal(a[2], b[2]) for a, b in zip(found, due[-len(found) :], strict=True)
    )


@EVERY
def test_epochs_and_classifiers(name, weights):
    state = torch.random.get_rng_state()
    found = list(fit(name, Tools(weights=weights)))
    assert torch.equal(torch.random.get_rng_state(), state), "it draws from the global stream"
    numbers = [epoch.number for epoch in found]
    assert numbers == sorted(set(numbers)) and numbers[0] >= 1
    assert numbers[-1] == getattr(config_of(name), "epochs", 1)
    assert all(math.isfinite(epoch.loss) for epoch in found)
    x = Toy(seed=3).x
    logits = found[-1].predict(x)
    assert logits.shape == (len(x), 3) and logits.dtype == torch.float32 and logits.isfinite().all()
    assert torch.allclose(found[-1].predict(x[:4]), logits[:4], atol=1e-4), "an image's class depends on the others"


@EVERY
def test_the_seed_decides(name, weights):
    one, same, other = (ends(name, Tools(seed=seed, weights=weights)) for seed in (1, 1, 2))
    assert equal(one, same)
    assert name in SEEDLESS or not equal(one, other)


@EVERY
def test_a_killed_training_goes_on_to_the_same_bits(name, tmp_path, weights):
    unbroken = ends(name, Tools(seed=3, weights=weights))
    next(fit(name, Tools(seed=3, work=tmp_path, weights=weights)))
    assert equal(ends(name, Tools(seed=3, work=tmp_path, weights=weights)), unbroken)


@EVERY
def test_what_it_needs_is_asked_for(name, weights):
    """Labels, own images and weights: an error that says so."""
    module, tools = methods.load("learner", name), Tools(weights=weights)
    if "labels" in module.NEEDS:
        bare = toy().without_labels()
        bare.clean, bare.own = bare, Toy(each=7)
        with pytest.raises(UsageError, match="one folder per class|two class folders"):
            next(fit(name, tools, bare))
    if "own" in module.NEEDS:
        poor = toy()
        poor.own = None
        with pytest.raises(UsageError, match="none were given"):
            next(fit(name, tools, poor))
    if "encoder" in module.NEEDS:
        for attempt in (lambda: next(fit(name, Tools())), lambda: module.require(config_of(name), Tools())):
            with pytest.raises(ResourceError, match="'encoder'"):
                attempt()


@EVERY
def test_its_cost_is_known_before_and_whom_it_hardens(name):
    module, config = methods.load("learner", name), config_of(name)
    assert 0 <= module.passes(config, 24) < float("inf")
    hardened = module.counters(config) if hasattr(module, "counters") else None
    assert hardened is None or hardened in NAMES
