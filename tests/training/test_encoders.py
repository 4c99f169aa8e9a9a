"""Encoders behind one call: which one is chosen, what it sees, and what its gradient is."""

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F
from torchvision.models import squeezenet1_1
from toy import Toy

from ue_audit.errors import ResourceError, UsageError
from ue_audit.tools import Tools
from ue_audit.training import encoders, pretrained

OWN = {"epochs": 1, "min_surrogate_steps": 4, "batch": 16, "min_accuracy": 0.0}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random ones of SqueezeNet."""
    path = tmp_path_factory.mktemp("weights") / "any.name"
    torch.manual_seed(0)
    save_file(squeezenet1_1().state_dict(), path)
    return path


def load(data=None, tools=None, **fields):
    return encoders.load(encoders.Encoding(**{"own": OWN} | fields), data or Toy(), tools or Tools())


def given(weights):
    return Tools(weights={"encoder": weights})


def test_without_weights_a_classifier_of_the_owners_is_trained_and_says_so():
    data, tools = Toy(), Tools(seed=2)
    encode = load(data, tools)
    features = encode(data.x)
    assert features.shape == (48, 128) and features.dtype == torch.float32
    assert tools.notes["encoder"] == {"kind": "own"} and tools.notes["label_agnostic"] is False


@pytest.mark.parametrize("data", [Toy().without_labels(), Toy(classes=1)])
def test_neither_labels_nor_weights_is_refused_with_the_option_that_helps(data):
    with pytest.raises(UsageError, match="expected labels to train an encoder on, or the weights") as error:
        load(data)
    assert "--encoder FILE" in error.value.hint


def test_a_file_of_weights_is_recognised_and_needs_no_labels(weights):
    tools = given(weights)
    encode = load(Toy().without_labels(), tools, encoder_side=64)
    assert encode(torch.rand(2, 3, 12, 12)).shape == (2, 512)
    assert tools.notes["encoder"]["kind"] == "squeezenet1_1" and tools.notes["encoder"]["side"] == 64
    assert len(tools.notes["encoder"]["sha256"]) == 64 and tools.notes["label_agnostic"] is True


def test_missing_weights_say_how_to_get_them():
    with pytest.raises(ResourceError, match="encoder") as error:
        load(encoder="resnet50")
    assert "--encoder FILE" in error.value.hint and "get_model('resnet50'" in error.value.hint


def test_what_an_own_encoder_has_no_use_for_is_refused(weights):
    with pytest.raises(UsageError, match="weights of an encoder for an encoder that is trained here"):
        load(tools=given(weights), encoder="own")
    with pytest.raises(UsageError, match="encoder_side"):
        load(encoder_side=64)


def test_images_come_to_the_encoders_side_inside_the_graph():
    """Mean brightness is kept, and its gradient is even, going up and going down."""
    for size in (16, 64):
        x = torch.rand(2, 3, size, size, requires_grad=True)
        encode = encoders.Encoder(lambda u: u.mean((2, 3)) if u.shape[-1] == 32 else None, side=32)
        torch.testing.assert_close(encode(x), x.mean((2, 3)), atol=0.02, rtol=0)
        slope = torch.autograd.grad(encode(x).sum(), x)[0]
        assert float(slope.sum()) == pytest.approx(6, rel=1e-4)
        torch.testing.assert_close(slope[..., 4:-4, 4:-4], torch.full_like(slope[..., 4:-4, 4:-4], 1 / size**2))


def test_the_gradient_is_that_of_finite_differences(weights):
    network = pretrained.load("squeezenet1_1", weights).double()
    encode = encoders.Encoder(network, side=32)
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)).double().requires_grad_()
    way = torch.randn(512, generator=torch.Generator().manual_seed(2)).double()

    def along(u):
        return (network(F.interpolate(u, (32, 32), mode="bilinear", align_corners=False)) * way).sum()

    torch.testing.assert_close(encode(x), network(F.interpolate(x, (32, 32), mode="bilinear")).float())
    slope = torch.autograd.grad(along(x), x)[0]
    step = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)).double()
    with torch.no_grad():
        numeric = (along(x + 1e-6 * step) - along(x - 1e-6 * step)) / 2e-6
    assert float((slope * step).sum()) == pytest.approx(float(numeric), rel=1e-5)
    measured = torch.autograd.grad((encode(x) * way.float()).sum(), x)[0]
    torch.testing.assert_close(measured, slope, rtol=1e-4, atol=1e-6)


def test_features_come_in_the_order_of_the_rows_whatever_the_chunk(monkeypatch):
    data, encode = Toy(), encoders.Encoder(lambda u: u.mean((2, 3)))
    monkeypatch.setattr(encoders, "CHUNK_PIXELS", 5 * 12**2)
    rows = torch.randperm(48, generator=torch.Generator().manual_seed(0))
    assert encode.chunk(12) == 5
    found = torch.from_numpy(encoders.features(encode, data, rows, Tools()))
    torch.testing.assert_close(found, data.x[rows].mean((2, 3)))


def test_features_of_a_change_are_those_of_eight_bits():
    data, encode = Toy(), encoders.Encoder(lambda u: u.flatten(1))
    rows = torch.arange(3)
    for change, expected in ((0.4, 0), (0.6, 1), (-900.0, None)):
        delta = torch.full((3, 3, 12, 12), change / 255)
        features = encoders.features(encode, data, rows, Tools(), lambda _, delta=delta: delta)
        due = torch.zeros(3, 3, 12, 12) if expected is None else data.x[rows] + expected / 255
        torch.testing.assert_close(torch.from_numpy(features), due.flatten(1))
