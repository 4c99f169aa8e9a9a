"""BYOL as a learner: it learns without labels; its paper preset has the published constants."""

import pytest
import torch
from toy import Toy

from ue_audit import methods
from ue_audit.learners import byol
from ue_audit.tools import Tools
from ue_audit.training import contrastive

QUICK = {"epochs": 6, "probe_every": 2, "batch": 16}


def test_its_loss_falls_and_the_probe_reads_two_grey_levels_off_its_features():
    data = Toy(classes=2, each=24)
    data.clean = data
    epochs = [(e.number, e.loss, e.predict(data.x)) for e in byol.fit(data, byol.Config(**QUICK), Tools(seed=0))]
    assert [number for number, _, _ in epochs] == [2, 4, 6]
    assert epochs[-1][1] < epochs[0][1]
    assert float((epochs[-1][2].argmax(1) == data.labels).float().mean()) > 0.9


def test_the_paper_preset_has_the_published_constants():
    config = methods.configure("learner", "byol-paper", {}).config
    assert (config.backbone, config.epochs, config.batch, config.probe) == ("resnet18", 1000, 512, "sgd")
    assert (config.momentum, config.weight_decay, config.views.area) == (0.9, 1e-4, 0.2)
    assert config.ema == 0.999
    rates = [contrastive.rate(epoch, 1000, "byol", config, config.warmup) for epoch in (0, 10, 1000)]
    assert rates == pytest.approx([1.0 * 0.1, 1.0, 1.0 * 0.001], rel=1e-3)  # ten epochs of climbing, then a cosine


def test_it_is_the_algorithm_of_its_name(monkeypatch):
    built, real = [], contrastive.build
    monkeypatch.setattr(contrastive, "build", lambda *args: built.append(real(*args)) or built[-1])
    data = Toy()
    data.clean = data
    next(byol.fit(data, byol.Config(**QUICK), Tools()))
    assert type(built[0]) is contrastive.BYOL
    assert torch.isfinite(built[0].features(data.x)).all()
