"""A pretrained encoder as the start of a classifier: which one, in what parts, and what training may change."""

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models import resnet18

from ue_audit.errors import ResourceError, UsageError
from ue_audit.tools import Tools
from ue_audit.training import encoders, fit, transfer


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random ones of a ResNet-18."""
    path = tmp_path_factory.mktemp("weights") / "any.name"
    torch.manual_seed(0)
    save_file(resnet18().state_dict(), path)
    return path


def source(**fields):
    return transfer.Source(**{"encoder_side": 32} | fields)


def test_the_encoder_is_recognised_and_frozen_and_noted(weights):
    tools = Tools(weights={"encoder": weights})
    encoder = transfer.load(source(), tools)
    assert encoder(torch.rand(2, 3, 16, 16)).shape == (2, 512) and encoder.side == 32
    assert not encoder.network.training and not any(p.requires_grad for p in encoder.network.parameters())
    assert tools.notes["encoder"]["kind"] == "resnet18" and list(tools.notes) == ["encoder"]


def test_missing_weights_are_named_with_the_option_that_gives_them():
    for kind in ("auto", "resnet50"):
        with pytest.raises(ResourceError, match="'encoder' are needed") as error:
            transfer.load(source(encoder=kind), Tools())
        assert "--encoder FILE" in error.value.hint


def test_a_side_that_an_encoder_cannot_take_is_refused(weights):
    with pytest.raises(UsageError, match="clip-rn50 takes images of 224"):
        transfer.load(source(encoder="clip-rn50"), Tools(weights={"encoder": weights}))


def test_reading_in_parts_is_reading_at_once(monkeypatch):
    encoder, x = encoders.Encoder(lambda u: u.mean((2, 3)), side=16), torch.rand(5, 3, 8, 8)
    monkeypatch.setattr(encoders, "CHUNK_PIXELS", 2 * 16**2)
    assert encoder.chunk(8) == 2 and torch.equal(transfer.read(encoder, x), encoder(x))


def test_training_moves_the_weights_and_leaves_the_encoders_statistics(weights):
    encoder = transfer.load(source(), Tools(weights={"encoder": weights}))
    model = transfer.Classifier(encoder, 16, 3, torch.device("cpu"))
    x, y = torch.rand(6, 3, 16, 16), torch.arange(6) % 3
    assert torch.equal(fit.logits_of(model, x), torch.zeros(6, 3))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(2):  # the first moves the linear layer only: it starts at zero
        fit.train_step(model, torch.optim.SGD(model.parameters(), 0.01), x, y)
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {name for name, _ in model.named_parameters()} | {
        name for name in before if name.startswith("head.0")
    }
    assert not model.body.training and model.head.training
