"""The probe of a frozen encoder: the optimum on its features; what it needs."""

import pytest
import torch
from torch.nn import functional as F
from toy import Toy

from ue_audit.errors import ResourceError, UsageError
from ue_audit.learners import pretrained_probe
from ue_audit.tools import Tools
from ue_audit.training import encoders, probe, transfer


@pytest.fixture
def colours(monkeypatch):
    """In place of a pretrained encoder: the mean colour."""
    monkeypatch.setattr(transfer, "load", lambda config, tools: encoders.Encoder(lambda x: x.mean((2, 3)), side=16))


def test_it_is_the_logistic_probe_of_the_encoders_features_in_one_epoch(colours):
    data, test = Toy(), Toy(seed=1)
    (epoch,) = pretrained_probe.fit(data, pretrained_probe.Config(probe_decay=0.01), Tools())
    encode = transfer.load(None, None)
    line = probe.logistic(encode(data.x), data.labels, 3, 0.01)
    assert torch.equal(epoch.predict(test.x), F.linear(encode(test.x), *line))
    assert epoch.number == 1 and epoch.loss == pytest.approx(float(F.cross_entropy(epoch.predict(data.x), data.labels)))
    assert float((epoch.predict(test.x).argmax(1) == test.labels).float().mean()) > 0.9


def test_the_seed_changes_nothing(colours):
    one, two = (next(pretrained_probe.fit(Toy(), pretrained_probe.Config(), Tools(seed=s))) for s in (1, 2))
    assert one.loss == two.loss and torch.equal(one.predict(Toy().x), two.predict(Toy().x))


def test_it_needs_labels_and_weights():
    with pytest.raises(UsageError, match="one folder per class"):
        next(pretrained_probe.fit(Toy().without_labels(), pretrained_probe.Config(), Tools()))
    with pytest.raises(ResourceError, match="encoder"):
        next(pretrained_probe.fit(Toy(), pretrained_probe.Config(), Tools()))
    config = pretrained_probe.Config()
    assert pretrained_probe.counters(config) == "supervised" and pretrained_probe.passes(config, 9) == pytest.approx(
        1 / 3
    )


def test_a_real_encoder_reads_grey_levels(shared_data):
    """Three grey levels are not what SqueezeNet was trained for, but it reads them."""
    tools = Tools(weights={"encoder": shared_data / "weights" / "squeezenet1_1.safetensors"})
    data, test = Toy(each=8), Toy(each=4, seed=1)
    epoch = next(pretrained_probe.fit(data, pretrained_probe.Config(encoder_side=64), tools))
    assert float((epoch.predict(test.x).argmax(1) == test.labels).float().mean()) > 0.8
