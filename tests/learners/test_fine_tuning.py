"""Fine-tuning: the loop of `supervised` on the weights of an encoder."""

import itertools

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import squeezenet1_1
from toy import Toy

from ue_audit.errors import ResourceError, UsageError
from ue_audit.learners import fine_tuning
from ue_audit.tools import Tools
from ue_audit.training import supervised_fit

QUICK = fine_tuning.Config(epochs=2, batch=8, encoder_side=32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "any.name"
    torch.manual_seed(0)
    save_file(squeezenet1_1().state_dict(), path)
    return {"encoder": path}


def run(tools, epochs=None, config=QUICK):
    data = Toy(each=8)
    found = fine_tuning.fit(data, config, tools)
    return [(e.number, e.loss, e.predict(data.x[:4])) for e in itertools.islice(found, epochs)]


def test_it_starts_at_chance_and_learns_two_grey_levels(shared_data):
    tools = Tools(weights={"encoder": shared_data / "weights" / "squeezenet1_1.safetensors"})
    data = Toy(classes=2, each=16)
    config = fine_tuning.Config(epochs=4, batch=8, encoder_side=64)
    first, *_, last = fine_tuning.fit(data, config, tools)
    assert last.loss < first.loss
    assert float((last.predict(data.x).argmax(1) == data.labels).float().mean()) > 0.9


def test_a_killed_training_goes_on_to_the_same_bits(tmp_path, monkeypatch, weights):
    monkeypatch.setattr(supervised_fit, "SAVE_SECONDS", 0.0)
    unbroken = run(Tools(seed=3, weights=weights))
    run(Tools(seed=3, work=tmp_path, weights=weights), epochs=1)
    for (number, loss, logits), (due, due_loss, due_logits) in zip(
        run(Tools(seed=3, work=tmp_path, weights=weights)), unbroken, strict=True
    ):
        assert (number, loss) == (due, due_loss) and torch.equal(logits, due_logits)


def test_it_needs_labels_and_weights():
    with pytest.raises(ResourceError, match="encoder"):
        run(Tools())
    with pytest.raises(UsageError, match="one folder per class"):
        fine_tuning.fit(Toy().without_labels(), QUICK, Tools())
    assert fine_tuning.counters(QUICK) == "supervised" and fine_tuning.passes(QUICK, 9) == 2
