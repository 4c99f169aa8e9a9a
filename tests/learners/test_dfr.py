"""Deep feature reweighting: the body is that of `supervised`, the last layer that of own images."""

import itertools

import pytest
import torch
from toy import Toy

from ue_audit.errors import UsageError
from ue_audit.learners import dfr, supervised
from ue_audit.tools import Tools
from ue_audit.training import fit, probe, supervised_fit

QUICK = {"epochs": 5, "batch": 8, "lr": 0.05}


def toy():
    data = Toy(each=8)
    data.own = Toy(each=4, seed=5)
    return data


def run(data, tools=None, epochs=None, **fields):
    found = dfr.fit(data, dfr.Config(**QUICK | {"probe_every": 2} | fields), tools or Tools(seed=2))
    return [(e.number, e.loss, e.predict(data.x[:4])) for e in itertools.islice(found, epochs)]


def test_it_is_the_probe_of_what_supervised_training_learnt():
    data, config = toy(), supervised.Config(**QUICK)
    model = supervised_fit.network(data, config, Tools(seed=2))
    losses = [e.loss for e in supervised_fit.train(model, data, config, Tools(seed=2))]
    h = fit.logits_of(model[:-1], data.own.x)
    due = torch.nn.functional.linear(
        fit.logits_of(model[:-1], data.x[:4]), *probe.logistic(h, data.own.labels, 3, 1e-2)
    )
    found = run(data)
    assert [number for number, _, _ in found] == [2, 4, 5]
    assert [loss for _, loss, _ in found] == [losses[1], losses[3], losses[4]]
    torch.testing.assert_close(found[-1][2], due, atol=1e-3, rtol=1e-3)


def test_own_labels_decide_what_features_mean():
    """Given labels that were exchanged teach features; own ones name them."""
    data = Toy(classes=2, each=16)
    data.labels, data.own = 1 - data.labels, Toy(classes=2, each=6, seed=3)
    test = Toy(classes=2, each=16, seed=4)
    *_, last = dfr.fit(data, dfr.Config(epochs=3, batch=8, lr=0.05), Tools(seed=0))
    assert float((last.predict(test.x).argmax(1) == test.labels).float().mean()) > 0.9


@pytest.mark.parametrize("consumed", [1, 2])
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, monkeypatch, consumed):
    monkeypatch.setattr(supervised_fit, "SAVE_SECONDS", 0.0)
    unbroken = run(toy())
    run(toy(), Tools(seed=2, work=tmp_path), epochs=consumed)
    resumed = run(toy(), Tools(seed=2, work=tmp_path))
    for (number, loss, logits), (due, due_loss, due_logits) in zip(resumed, unbroken[consumed - 1 :], strict=True):
        assert (number, loss) == (due, due_loss) and torch.equal(logits, due_logits)


def test_without_own_images_there_is_nothing_to_refit_on():
    data = Toy()
    data.own = None
    with pytest.raises(UsageError, match="deep feature reweighting needs clean labelled images"):
        run(data)
