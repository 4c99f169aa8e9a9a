"""Rows of several sets as one; own images that are missing or of other classes."""

import pytest
import torch
from toy import Toy

from ue_audit.errors import UsageError
from ue_audit.training.joined import Joined, own_of


def test_a_row_is_the_row_of_its_set_in_any_order_and_as_often_as_named():
    a, b = Toy(each=2), Toy(each=3, seed=1)
    joined = Joined([a, b], torch.tensor([5, 6, 14, 0, 6]))
    assert len(joined) == 5 and joined.size == 12 and joined.classes == a.classes
    expected = torch.stack([a.x[5], b.x[0], b.x[8], a.x[0], b.x[0]])
    assert torch.equal(joined.batch(torch.arange(5)), expected)
    assert torch.equal(joined.batch(torch.tensor([4, 2])), expected[[4, 2]])
    assert joined.labels.tolist() == [int(v) for v in (a.labels[5], b.labels[0], b.labels[8], a.labels[0], b.labels[0])]
    assert joined.keys == [a.keys[5], b.keys[0], b.keys[8], a.keys[0], b.keys[0]]


def test_a_set_of_which_a_batch_has_nothing_is_not_asked():
    a, b = Toy(each=2), Toy(each=2)
    b.batch = None
    assert torch.equal(Joined([a, b], torch.arange(12)).batch(torch.tensor([3])), a.x[[3]])


def test_own_images_that_are_missing_or_of_other_classes_are_refused():
    data = Toy()
    data.own = None
    with pytest.raises(UsageError, match="dilution needs clean labelled images of the attacker's own") as error:
        own_of(data, "dilution")
    assert error.value.hint == "name them: --own FOLDER"
    unlabelled = Toy()
    unlabelled.labels, unlabelled.classes = None, ()
    for data.own, found in ((unlabelled, "no classes"), (Toy(classes=2), "class0, class1$")):
        with pytest.raises(UsageError, match=f"of the classes class0, class1, class2, found {found}"):
            own_of(data, "dilution")


def test_unlabelled_images_take_own_ones_of_any_classes():
    data = Toy()
    data.classes, data.own = (), Toy(classes=2)
    assert own_of(data, "a probe") is data.own
