"""Dilution: a pass is over both sets, and own images weigh as often as they are repeated."""

import pytest
import torch
from toy import Toy

from ue_audit.errors import UsageError
from ue_audit.learners import dilution, supervised
from ue_audit.tools import Tools

QUICK = {"epochs": 3, "batch": 8, "lr": 0.05}


def toy(own=6, seed=5):
    data = Toy(each=8)
    data.own = Toy(each=own // 3, seed=seed) if own else None
    return data


def run(data, tools=None, **fields):
    epochs = dilution.fit(data, dilution.Config(**QUICK | fields), tools or Tools(seed=2))
    return [(e.number, e.loss, e.predict(data.x[:4])) for e in epochs]


def test_it_is_supervised_training_on_the_sets_laid_end_to_end():
    data = toy()
    joined = Toy(each=8)
    joined.x, joined.labels = torch.cat([data.x, data.own.x]), torch.cat([data.labels, data.own.labels])
    expected = [
        (e.loss, e.predict(data.x[:4])) for e in supervised.fit(joined, supervised.Config(**QUICK), Tools(seed=2))
    ]
    for (_, loss, logits), (due, due_logits) in zip(run(data), expected, strict=True):
        assert loss == due and torch.equal(logits, due_logits)


@pytest.mark.parametrize("repeats", [1, 3])
def test_an_own_image_comes_as_often_as_asked_in_a_pass(repeats):
    data, shown = toy(), []
    real, data.own.batch = data.own.batch, lambda rows: shown.extend(rows.tolist()) or real(rows)
    run(data, epochs=1, batch=3, repeats=repeats)  # 24 + 6 repeats images: whole batches
    assert sorted(shown) == sorted(list(range(6)) * repeats)


def test_own_images_correct_labels_that_are_wrong():
    """Given images whose two classes were exchanged, and twice as many own ones."""
    data = Toy(classes=2, each=12)
    data.labels, data.own = 1 - data.labels, Toy(classes=2, each=12, seed=3)
    test = Toy(classes=2, each=12, seed=4)
    *_, last = dilution.fit(data, dilution.Config(epochs=6, batch=8, lr=0.05, repeats=3), Tools(seed=0))
    assert float((last.predict(test.x).argmax(1) == test.labels).float().mean()) > 0.9


def test_it_notes_how_many_and_needs_labels_and_own_images():
    tools = Tools()
    next(dilution.fit(toy(), dilution.Config(**QUICK), tools))
    assert tools.notes["own_images"] == 6 and dilution.counters(dilution.Config()) == "supervised"
    with pytest.raises(UsageError, match="--own|own, none"):
        run(toy(own=0))
    with pytest.raises(UsageError, match="one folder per class"):
        next(dilution.fit(Toy().without_labels(), dilution.Config(**QUICK), Tools()))
