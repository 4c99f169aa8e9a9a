"""OPS: which pixel, which colour, and nothing else."""

import math

import pytest
import torch
from toy import Toy, levels

from ue_audit.errors import UsageError
from ue_audit.protections import ops
from ue_audit.tools import Tools

QUICK: dict[str, object] = {}


def craft(data, tools=None, **fields):
    return ops.generate(data, ops.Config(**fields), tools or Tools(seed=0))


def every_score(x):
    """mean |c - x| / std |c - x| of every colour and place of images (N,3,S,S), as defined."""
    scores = {}
    for c in ops.CORNERS.tolist():
        for i in range(x.shape[2]):
            for j in range(x.shape[3]):
                off = [abs(c[channel] - float(image[channel, i, j])) for image in x.double() for channel in range(3)]
                mean = sum(off) / len(off)
                scores[tuple(c), (i, j)] = mean / math.sqrt(sum((value - mean) ** 2 for value in off) / len(off))
    return scores


def test_every_class_takes_the_best_pair_that_none_before_it_has():
    data, tools = Toy(classes=3, each=5, size=4, seed=2), Tools()
    data.x[data.labels == 2] = data.x[data.labels == 0]  # the last class would choose as the first one did
    craft(data, tools, pixels=2)
    used = set()
    for label, name in enumerate(data.classes):
        scores = every_score(data.x[data.labels == label])
        best: list[tuple] = []
        for pair in sorted(scores, key=scores.get, reverse=True):
            if pair not in used and pair[1] not in [place for _, place in best]:
                best.append(pair)
        assert tools.notes["pixels"][name] == [[*place, *map(int, c)] for c, place in best[:2]]
        used.update(best[:2])


def test_one_pixel_differs_at_one_place_per_class_in_one_colour():
    data = Toy(classes=4, each=6, size=16)
    change = levels(data, craft(data))
    assert (change.any(1).flatten(1).sum(1) == 1).all()
    marks = set()
    for label in range(4):
        rows = (data.labels == label).nonzero()[:, 0]
        places = change[rows].any(1).flatten(1).int().argmax(1)
        x_ue = ((255 * data.x).round().int() + change)[rows].flatten(2)[torch.arange(len(rows)), :, places]
        assert len(set(places.tolist())) == 1 and len({tuple(c) for c in x_ue.tolist()}) == 1
        assert set(x_ue[0].tolist()) <= {0, 255}
        marks.add((int(places[0]), *x_ue[0].tolist()))
    assert len(marks) == 4


def test_many_pixels_and_few_places():
    data = Toy(classes=8, each=2, size=3)
    change = levels(data, craft(data, pixels=9))  # all 8 colours of all 9 places
    assert (change.any(1).flatten(1).sum(1) == 9).all()
    for crowded, pixels in ((Toy(classes=9, each=2, size=3), 9), (data, 10)):
        with pytest.raises(UsageError, match="is too many for"):
            craft(crowded, pixels=pixels)


def test_the_pixel_lies_at_the_same_place_at_any_size():
    data, tools = Toy(each=4, size=16), Tools()
    delta = craft(data, tools)
    row, column, *colour = tools.notes["pixels"]["class1"][0]
    for height, width in ((16, 16), (32, 48), (15, 224), (8, 8)):
        x = torch.full((3, height, width), 0.5)
        change = delta.native(1, x)
        (place,) = change.any(0).nonzero().tolist()
        assert abs((place[0] + 0.5) / height - (row + 0.5) / 16) <= 0.5 / height + 1e-9
        assert abs((place[1] + 0.5) / width - (column + 0.5) / 16) <= 0.5 / width + 1e-9
        assert (x + change)[:, place[0], place[1]].tolist() == colour
    assert torch.equal(delta.native(4, data.x[4]), delta(torch.tensor([4]))[0])


def test_places_that_fall_together_keep_the_better_colour():
    data, tools = Toy(each=4, size=4), Tools()
    delta = craft(data, tools, pixels=16)
    (_, _, *best) = tools.notes["pixels"]["class0"][0]
    change = delta.native(0, torch.full((3, 1, 1), 0.5))
    assert (change[:, 0, 0] + 0.5).tolist() == best


def test_the_order_of_files_changes_nothing_and_batches_neither(monkeypatch):
    data = Toy(each=9)
    expected = craft(data)(torch.arange(27))
    shuffled = torch.randperm(27, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(ops, "AT_ONCE", 1)
    assert torch.equal(craft(Toy(each=9, order=shuffled))(torch.arange(27)), expected[shuffled])


def test_classes_of_one_image_and_grey_photographs_get_a_pixel():
    data = Toy(classes=3, each=1)
    data.x = data.x[:, :1].repeat(1, 3, 1, 1)  # a corner that is grey too deviates alike in all channels
    change = levels(data, craft(data))
    assert torch.isfinite(craft(data)(torch.arange(3))).all()
    assert (change.any(1).flatten(1).sum(1) == 1).all()


def test_labels_are_needed():
    with pytest.raises(UsageError, match="two class folders"):
        craft(Toy().without_labels())
