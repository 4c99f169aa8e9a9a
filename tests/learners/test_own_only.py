"""Own images alone: the given images count by their number only."""

from collections import Counter

import pytest
import torch
from toy import Toy

from ue_audit.errors import UsageError
from ue_audit.learners import own_only
from ue_audit.tools import Tools

QUICK = {"epochs": 2, "batch": 8, "lr": 0.05}


def toy(each=8, own=7, seed=0):
    data = Toy(each=each, seed=seed)
    data.own = Toy(each=own, seed=5)
    data.own.x, data.own.labels = data.own.x[: own - 1], data.own.labels[: own - 1]
    return data


def run(data, **fields):
    epochs = own_only.fit(data, own_only.Config(**QUICK | fields), Tools(seed=2))
    return [(e.number, e.loss, e.predict(data.own.x[:4])) for e in epochs]


def test_the_pixels_and_labels_of_the_given_images_change_nothing():
    one, two = toy(), toy(seed=9)
    two.labels = two.labels.roll(1)
    for (_, loss, logits), (_, due, due_logits) in zip(run(one), run(two), strict=True):
        assert loss == due and torch.equal(logits, due_logits)


@pytest.mark.parametrize("given, own, due", [(24, 6, {4}), (24, 7, {3, 4}), (6, 9, {1})])
def test_a_pass_is_as_long_as_one_over_the_given_images_and_even_over_own_ones(given, own, due):
    data, shown = Toy(classes=2, each=given // 2), []
    data.own = Toy(classes=2, each=8)
    data.own.x, data.own.labels = data.own.x[:own], data.own.labels[:own]
    real, data.own.batch = data.own.batch, lambda rows: shown.extend(rows.tolist()) or real(rows)
    list(own_only.fit(data, own_only.Config(epochs=1, batch=3, lr=0.05), Tools()))
    assert len(shown) == max(given, own) and set(shown) == set(range(own))
    assert set(Counter(shown).values()) == due


def test_it_learns_two_grey_levels_from_six_images():
    data = Toy(classes=2, each=24)
    data.own = Toy(classes=2, each=3, seed=3)
    *_, last = own_only.fit(data, own_only.Config(epochs=6, batch=16, lr=0.05), Tools(seed=0))
    assert float((last.predict(data.x).argmax(1) == data.labels).float().mean()) > 0.9


def test_without_own_images_there_is_nothing_to_learn():
    data = Toy()
    data.own = None
    with pytest.raises(UsageError, match="training on own images alone needs clean labelled images"):
        next(own_only.fit(data, own_only.Config(**QUICK), Tools()))
