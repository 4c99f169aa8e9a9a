"""The supervised learner: it learns, and a killed training goes on to the same bits."""

import itertools

import pytest
import torch
from toy import Toy

from ue_audit import methods
from ue_audit.errors import UsageError
from ue_audit.learners import supervised
from ue_audit.tools import Tools
from ue_audit.training import supervised_fit

QUICK = supervised.Config(epochs=3, batch=8, lr=0.05)


def run(tools, data, config=QUICK, epochs=None):
    """Loss and logits of each epoch."""
    rows = torch.arange(4)
    found = supervised.fit(data, config, tools)
    return [(e.number, e.loss, e.predict(data.batch(rows))) for e in itertools.islice(found, epochs)]


def test_it_learns_two_grey_levels():
    data = Toy(classes=2, each=32)
    *_, last = supervised.fit(data, supervised.Config(epochs=6, batch=16, lr=0.05), Tools(seed=0))
    right = last.predict(data.x).argmax(1) == data.labels
    assert float(right.float().mean()) > 0.9


def test_epochs_are_numbered_and_the_classifier_gives_float_logits():
    epochs = run(Tools(seed=0), Toy())
    assert [number for number, _, _ in epochs] == [1, 2, 3]
    assert epochs[0][2].shape == (4, 3) and epochs[0][2].dtype == torch.float32


@pytest.mark.parametrize("consumed", [1, 2])
def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, monkeypatch, consumed):
    monkeypatch.setattr(supervised_fit, "SAVE_SECONDS", 0.0)
    data, unbroken = Toy(), run(Tools(seed=3), Toy())
    broken = supervised.fit(data, QUICK, Tools(seed=3, work=tmp_path))
    for _ in range(consumed):
        next(broken)
    broken.close()  # killed while the epoch's result is being looked at: that epoch is not lost, it comes again
    resumed = run(Tools(seed=3, work=tmp_path), data)
    assert [number for number, _, _ in resumed] == list(range(consumed, 4))
    for (_, loss, logits), (_, expected, expected_logits) in zip(resumed, unbroken[consumed - 1 :], strict=True):
        assert loss == expected and torch.equal(logits, expected_logits)


def test_a_training_killed_within_an_epoch_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(supervised_fit, "SAVE_SECONDS", 0.0)
    unbroken = run(Tools(seed=3), Toy())
    data, calls = Toy(), itertools.count()

    def dies(rows):
        if next(calls) == 9:  # six batches an epoch: the fourth of the second
            raise KeyboardInterrupt
        return Toy.batch(data, rows)

    data.batch = dies
    with pytest.raises(KeyboardInterrupt):
        list(supervised.fit(data, QUICK, Tools(seed=3, work=tmp_path)))
    resumed = run(Tools(seed=3, work=tmp_path), Toy())
    assert [(n, loss) for n, loss, _ in resumed] == [(n, loss) for n, loss, _ in unbroken[1:]]
    assert torch.equal(resumed[-1][2], unbroken[-1][2])


def test_without_labels_or_with_one_class_there_is_nothing_to_learn():
    with pytest.raises(UsageError, match="one folder per class"):
        next(supervised.fit(Toy().without_labels(), QUICK, Tools()))
    with pytest.raises(UsageError, match="two classes"):
        next(supervised.fit(Toy(classes=1), QUICK, Tools()))


def test_a_finished_training_that_was_not_recorded_ends_once_more(tmp_path, monkeypatch):
    monkeypatch.setattr(supervised_fit, "SAVE_SECONDS", 0.0)
    finished = run(Tools(seed=3, work=tmp_path), Toy())
    again = run(Tools(seed=3, work=tmp_path), Toy())
    assert [number for number, _, _ in again] == [3]
    assert again[0][1] == finished[2][1] and torch.equal(again[0][2], finished[2][2])


AUGMENTATIONS = ("cutout", "mixup", "cutmix", "fast-autoaugment", "displacement")


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_an_augmentation_changes_the_training_repeats_and_makes_it_a_countermeasure(name):
    short = supervised.Config(epochs=1, batch=8, lr=0.05)
    config = short.model_copy(update={"augmentation": name})
    plain, once, again = (run(Tools(seed=0), Toy(each=8), c) for c in (short, config, config))
    assert once[0][1] == again[0][1] and torch.equal(once[0][2], again[0][2])
    assert once[0][1] != plain[0][1]
    assert supervised.counters(config) == "supervised" and supervised.counters(short) is None


@pytest.mark.parametrize(
    ("name", "fields"),
    [("cutout", {"hole": 0.0}), ("mixup", {"mix_probability": 0.0}), ("displacement", {"reach": 0.0})],
)
def test_an_augmentation_of_no_strength_is_none(name, fields):
    config = supervised.Config(epochs=1, batch=8, lr=0.05, augmentation=name, **fields)
    plain = supervised.Config(epochs=1, batch=8, lr=0.05)
    losses = [run(Tools(seed=0), Toy(each=8), c)[0][1] for c in (config, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_labels_are_mixed_as_the_images_are(name):
    """An image of class k is k everywhere, so its mean is the sum of its labels' shares times their classes."""
    classes = torch.arange(4).repeat(8)
    x = classes.view(-1, 1, 1, 1).expand(-1, 3, 16, 16).float()
    config = supervised.Config(augmentation=name, mixes=3)
    mixed, shares = supervised.augmented(x, classes, config, torch.Generator().manual_seed(0), 4)
    assert torch.allclose(shares.sum(1), torch.ones(32))
    assert not torch.equal(mixed, x)
    if name == "mixup":  # a second box of CutMix may cover the first, and counts as if it covered all alike
        assert torch.allclose(mixed.mean((1, 2, 3)), shares @ torch.arange(4.0), atol=1e-5)


def test_alternating_flips_show_both_sides_in_two_epochs():
    """Images whose left half is white: the mirrored ones are told by their first column."""
    data, seen = Toy(), []
    data.x = torch.zeros_like(data.x)
    data.x[:, 0, 0, 0] = torch.arange(48) / 48  # tells the images apart, on either side
    data.x[:, 0, 0, -1] = torch.arange(48) / 48
    data.x[:, 1, :, :6] = 1
    config = supervised.Config(epochs=4, batch=8, lr=0.05, crop=0.0, flip_order="alternating")

    def record(model, optimiser, x, y):
        seen.extend(zip(x[:, 0, 0, 0].tolist(), (x[:, 1, 0, 0] == 0).tolist(), strict=True))
        return 0.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supervised.loop, "train_step", record)
        run(Tools(seed=0), data, config)
    epochs = [dict(seen[48 * k : 48 * k + 48]) for k in range(4)]
    assert len(epochs[0]) == 48 and 12 < sum(epochs[0].values()) < 36
    assert all(epochs[1][image] == (not mirrored) for image, mirrored in epochs[0].items())
    assert epochs[2] == epochs[0] and epochs[3] == epochs[1]


def test_the_presets_are_named_after_what_they_do():
    names = ("cutout", "mixup", "cutmix", "fast-autoaugment", "coin")
    for preset, augmentation in zip(names, AUGMENTATIONS, strict=True):
        assert methods.configure("learner", preset, {}).config.augmentation == augmentation
