"""The loop of the learners without labels: what it sees, when it probes, and that a kill changes nothing."""

import importlib
import itertools

import pytest
import torch
from toy import Toy

from ue_audit.errors import NonFiniteError, UsageError
from ue_audit.tools import Tools, substream
from ue_audit.training import contrastive, contrastive_fit, fit

QUICK = contrastive_fit.Config(epochs=4, probe_every=2, batch=9, lr_scale=0.05, queue=8)  # two steps a pass
ALGORITHMS = ("simclr", "moco", "byol")


def toy():
    """Toy images with clean ones beside them."""
    data = Toy(each=6)
    data.clean = Toy(each=6)
    return data


def run(tools, data, config=QUICK, algorithm="moco", epochs=None):
    """Number, loss and logits of each yielded epoch."""
    found = contrastive_fit.fit(algorithm, data, config, tools)
    return [(e.number, e.loss, e.predict(data.x[:5])) for e in itertools.islice(found, epochs)]


def same(one, two):
    return all(a[:2] == b[:2] and torch.equal(a[2], b[2]) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_loop_is_steps_on_two_fresh_views_of_shuffled_batches(algorithm):
    data, tools = toy(), Tools(seed=6)
    model = contrastive.build(algorithm, QUICK.backbone, substream(6, "weights"), QUICK, 18)
    optimiser = contrastive.sgd(model, QUICK)
    losses = []
    for step in range(4 * 2):  # four passes over 18 images, 9 at a time
        order = list(fit.batches(18, 9, tools.generator("order", step // 2)))
        optimiser.param_groups[0]["lr"] = contrastive.rate(step, 8, algorithm, QUICK)
        a, b = contrastive.pair(data.x[order[step % 2]], QUICK.views, tools.generator("views", step))
        losses.append(contrastive.train_step(model, optimiser, a, b))
    (_, second, _), (_, fourth, logits) = run(Tools(seed=6), data, algorithm=algorithm)
    assert (second, fourth) == (sum(losses[2:4]) / 2, sum(losses[6:]) / 2)
    assert logits.shape == (5, 3) and logits.dtype == torch.float32


def test_it_probes_every_so_many_passes_and_after_the_last():
    numbers = [number for number, _, _ in run(Tools(), toy(), QUICK.model_copy(update={"probe_every": 3}))]
    assert numbers == [3, 4]


def test_training_sees_no_label_and_the_probe_only_those_of_clean_images():
    data, shuffled = toy(), toy()
    shuffled.clean.labels = shuffled.clean.labels.roll(1)
    (_, loss, logits), (_, same_loss, others) = run(Tools(), data)[-1], run(Tools(), shuffled)[-1]
    assert loss == same_loss and not torch.equal(logits, others)
    unlabelled = toy()
    unlabelled.labels, unlabelled.classes = None, ()
    assert same(run(Tools(), data), run(Tools(), unlabelled))


@pytest.mark.parametrize("algorithm, consumed", [("simclr", 1), ("moco", 2), ("byol", 1)])
def test_a_training_killed_while_its_result_is_looked_at_goes_on_to_the_same_bits(
    tmp_path, monkeypatch, algorithm, consumed
):
    monkeypatch.setattr(contrastive_fit, "SAVE_SECONDS", 0.0)
    unbroken = run(Tools(seed=3), toy(), algorithm=algorithm)
    broken = contrastive_fit.fit(algorithm, toy(), QUICK, Tools(seed=3, work=tmp_path))
    for _ in range(consumed):
        next(broken)
    broken.close()  # that epoch is not lost, it comes again
    resumed = run(Tools(seed=3, work=tmp_path), toy(), algorithm=algorithm)
    assert same(resumed, unbroken[consumed - 1 :])


@pytest.mark.parametrize("at", [1, 3, 5])  # within a pass that is not probed, one that is, and the next
def test_a_training_killed_within_a_pass_goes_on_to_the_same_bits(tmp_path, monkeypatch, at):
    monkeypatch.setattr(contrastive_fit, "SAVE_SECONDS", 0.0)
    unbroken, data, calls = run(Tools(seed=3), toy()), toy(), itertools.count()

    def dies(rows):
        if next(calls) == at:
            raise KeyboardInterrupt
        return data.x[rows]

    data.batch = dies
    with pytest.raises(KeyboardInterrupt):
        run(Tools(seed=3, work=tmp_path), data)
    resumed = run(Tools(seed=3, work=tmp_path), toy())
    assert same(resumed, unbroken[-len(resumed) :]) and len(resumed) == (2 if at < 4 else 1)


def test_a_probe_that_was_killed_is_fitted_again(tmp_path, monkeypatch):
    monkeypatch.setattr(contrastive_fit, "SAVE_SECONDS", 0.0)
    unbroken, real = run(Tools(seed=3), toy()), contrastive_fit.probe.fit

    def dies(*anything):
        raise KeyboardInterrupt

    monkeypatch.setattr(contrastive_fit.probe, "fit", dies)
    with pytest.raises(KeyboardInterrupt):
        run(Tools(seed=3, work=tmp_path), toy())
    monkeypatch.setattr(contrastive_fit.probe, "fit", real)
    assert same(run(Tools(seed=3, work=tmp_path), toy()), unbroken)


def test_divergence_and_missing_labels_are_told_apart_from_results(monkeypatch):
    monkeypatch.setattr(contrastive_fit.contrastive, "train_step", lambda *anything: float("nan"))
    with pytest.raises(NonFiniteError, match="moco loss became nan in epoch 1"):
        run(Tools(), toy())
    unlabelled = toy()
    unlabelled.labels, unlabelled.clean = None, None
    with pytest.raises(UsageError, match="clean originals"):
        run(Tools(), unlabelled)


# -- what is fitted on the features, and what is done to the views -----------------------------------------------


def test_the_probe_does_not_change_what_is_learnt():
    data = toy()
    data.own = Toy(each=6)
    losses = set()
    for fields in ({}, {"probe_on": "training"}, {"probe_on": "own"}, {"probe": "knn"}):
        config = QUICK.model_copy(update={"epochs": 2, **fields})
        losses.add(run(Tools(seed=2), data, config)[0][1])
    assert len(losses) == 1


def test_views_are_hardened_only_when_asked_and_each_by_its_own_draw(monkeypatch):
    seen, x = [], torch.full((4, 3, 12, 12), 0.2)
    monkeypatch.setattr(contrastive_fit.contrastive, "pair", lambda u, settings, generator: (u, u))
    for fields in ({}, {"view_noise": 0.1}, {"view_cutout": 0.5}, {"view_noise": 0.1, "view_cutout": 0.5}):
        seen.append(contrastive_fit._pair(x, contrastive_fit.Config(**fields), Tools(), 0))
    plain, noise, cut, both = seen
    assert plain[0] is x and plain[1] is x
    for a, b in seen[1:]:
        assert not torch.equal(a, b), "two views are spoiled differently"
    assert set(cut[0].unique().tolist()) == {torch.tensor(0.2).item(), 0.5}
    assert torch.equal(both[0], torch.where(cut[0] == 0.5, 0.5, noise[0]))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_hardened_views_make_a_countermeasure_of_a_victim(algorithm):
    module = importlib.import_module(f"ue_audit.learners.{algorithm}")
    assert module.counters(module.Config()) is None
    assert module.counters(module.Config(probe_on="training", probe="knn")) is None
    assert module.counters(module.Config(view_noise="8/255")) == algorithm
    assert module.counters(module.Config(view_cutout=0.5)) == algorithm
