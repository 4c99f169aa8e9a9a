"""Priors in the files of other code: found, recognised by content, put together, or refused with what would fit."""

import json
import shutil

import hostile_weights as hostile
import pytest
import torch
from safetensors.torch import save_file
from their_networks import Ddim, Guided, fill

from ue_audit.diffusion import foreign
from ue_audit.diffusion.foreign import Asked
from ue_audit.errors import IntegrityError, UsageError

SIZE = 16
DDIM = {"multipliers": (1, 2), "blocks": 1, "attention": (0,)}
CONFIG = {
    "_class_name": "UNet2DModel",
    "sample_size": SIZE,
    "block_out_channels": [32, 64],
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
    "layers_per_block": 1,
}


def load(place, size=None, **asked):
    return foreign.load(foreign.find(place), Asked(**asked), size)


def difference(prior, theirs, t=(1, 300)):
    """Largest difference of the predicted noise, in units of its standard deviation."""
    x_t = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        b = theirs(x_t, torch.tensor(t) - 1)
        b = (b.sample if hasattr(b, "sample") else b)[:, :3]
        a = prior.predict_noise(x_t, torch.tensor(t))
    return float((a - b).abs().max() / b.std())


@pytest.fixture(scope="module")
def diffusers_model():
    diffusers = pytest.importorskip("diffusers")
    return fill(diffusers.UNet2DModel.from_config(CONFIG))


@pytest.fixture(scope="module")
def ddim():
    return fill(Ddim(**DDIM))


# -- diffusers: folders and hub caches -----------------------------------------------------------------------


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("below", ["", "unet"])
def test_a_diffusers_folder(diffusers_model, tmp_path, safe, below):
    diffusers_model.save_pretrained(tmp_path / below, safe_serialization=safe)
    found = load(tmp_path)
    assert found.layout == "diffusers" and found.prior.size == SIZE and found.prior.t_max == 1000
    assert difference(found.prior, diffusers_model) < 1e-4
    assert found.assumed == ["T = 1000 and beta linear from 0.0001 to 0.02, as in DDPM"]


@pytest.mark.parametrize("below", ["scheduler", ""])
@pytest.mark.parametrize(
    "fields",
    [
        {"num_train_timesteps": 400, "beta_end": 0.01},
        {"beta_schedule": "scaled_linear"},
        {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 4000},
    ],
)
def test_its_scheduler_is_followed(diffusers_model, tmp_path, fields, below):
    from diffusers import DDPMScheduler

    diffusers_model.save_pretrained(tmp_path / "unet")
    theirs = DDPMScheduler(**fields)
    theirs.save_pretrained(tmp_path / below)
    prior = load(tmp_path).prior
    ours = prior.schedule.alpha_bar(torch.arange(1, prior.config.T + 1))
    torch.testing.assert_close(ours.float(), theirs.alphas_cumprod, rtol=1e-3, atol=1e-6)
    assert prior.t_max == fields.get("num_train_timesteps", 1000)
    prior.check_timestep(prior.t_max)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"prediction_type": "v_prediction"}, "prediction_type"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule"),
        ({"trained_betas": [0.1, 0.2]}, "trained_betas"),
        ({"num_train_timesteps": -5}, "num_train_timesteps"),
        ({"num_train_timesteps": 10**9}, "T: "),
        ({"beta_start": 7}, "beta_1"),
        ({"beta_end": "nan"}, "beta_end"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
    ],
)
def test_schedules_that_are_not_supported(diffusers_model, tmp_path, fields, words):
    diffusers_model.save_pretrained(tmp_path)
    (tmp_path / "scheduler_config.json").write_text(json.dumps({"_class_name": "DDPMScheduler"} | fields))
    with pytest.raises(IntegrityError) as caught:
        load(tmp_path)
    assert words in caught.value.message and "\n" not in caught.value.message


def hub_entry(model, root, revisions=("abc123",), main="abc123"):
    """As huggingface_hub lays it out: the files of a snapshot are links to blobs."""
    entry = root / "models--google--ddpm-cifar10-32"
    (entry / "blobs").mkdir(parents=True)
    model.save_pretrained(entry / "blobs" / "here")
    for revision in revisions:
        snapshot = entry / "snapshots" / revision
        snapshot.mkdir(parents=True)
        for name in ("config.json", "diffusion_pytorch_model.safetensors"):
            (snapshot / name).symlink_to(f"../../blobs/here/{name}")
    if main:
        (entry / "refs").mkdir()
        (entry / "refs" / "main").write_text(main)
    return entry


def test_an_entry_of_a_hub_cache_and_its_snapshot(diffusers_model, tmp_path):
    entry = hub_entry(diffusers_model, tmp_path, ("abc123", "def456"))
    for place in (entry, entry / "snapshots" / "def456"):
        assert difference(load(place).prior, diffusers_model) < 1e-4


@pytest.mark.parametrize(
    ("revisions", "main"), [((), ""), (("a1", "b2"), ""), (("a1", "b2"), "../../.."), (("a1", "b2"), "c3")]
)
def test_an_entry_without_a_main_snapshot(diffusers_model, tmp_path, revisions, main):
    entry = hub_entry(diffusers_model, tmp_path, revisions, main)
    (entry / "snapshots").mkdir(exist_ok=True)
    with pytest.raises(IntegrityError, match=f"expected one snapshot, found {len(revisions)}"):
        load(entry)


def test_links_that_leave_the_folder(diffusers_model, tmp_path):
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    diffusers_model.save_pretrained(outside)
    shutil.copytree(outside, folder)
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        (folder / name).unlink()
        (folder / name).symlink_to(outside / name)
        with pytest.raises(IntegrityError, match="found a link out of it"):
            load(folder)
        (folder / name).unlink()
        shutil.copy(outside / name, folder)
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").symlink_to("/etc/passwd")
    with pytest.raises(IntegrityError, match="found a link out of it"):
        load(folder)


def test_folders_that_are_no_prior(diffusers_model, tmp_path):
    with pytest.raises(IntegrityError, match="found no config.json"):
        load(tmp_path)
    diffusers_model.save_pretrained(tmp_path)
    weights = tmp_path / "diffusion_pytorch_model.safetensors"
    with pytest.raises(IntegrityError, match="do not say its shape") as caught:
        load(weights)
    assert str(tmp_path) in caught.value.hint
    weights.rename(tmp_path / "away")
    with pytest.raises(IntegrityError, match="found neither"):
        load(tmp_path)
    weights.mkdir()
    with pytest.raises(IntegrityError, match="no file"):
        load(tmp_path)
    (tmp_path / "diffusion_pytorch_model.safetensors.index.json").touch()
    with pytest.raises(IntegrityError, match="several files"):
        load(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "{",
        "[" * 100_000,
        '{"a": 1}' + " " * 2**20,
        '{"_class_name": "UNet2DModel", "norm_eps": NaN}',
        "\xff\xfe",
        "9" * 10_000,
    ],
)
def test_configurations_that_are_no_json_object(diffusers_model, tmp_path, text):
    diffusers_model.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(IntegrityError) as caught:
        load(tmp_path)
    assert "\n" not in caught.value.message and len(caught.value.message) < 400


def test_a_configuration_of_other_weights(diffusers_model, ddim, tmp_path):
    diffusers_model.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"layers_per_block": 2}))
    with pytest.raises(IntegrityError, match="do not fit"):
        load(tmp_path)
    save_file(ddim.state_dict(), tmp_path / "diffusion_pytorch_model.safetensors")
    with pytest.raises(IntegrityError, match="the weights are of ddim"):
        load(tmp_path)


# -- ddim ----------------------------------------------------------------------------------------------------


def ddim_list(model, average, **kinds):
    """As ermongroup/ddim saves: weights behind `module.`, optimiser, epoch, step, averaged weights."""
    weights = {f"module.{name}": w for name, w in model.state_dict().items()}
    optimiser = torch.optim.Adam(model.parameters()).state_dict()
    return [weights, optimiser, 7, 123, dict(average.named_parameters())]


@pytest.mark.parametrize("legacy", [False, True])
def test_a_list_of_ddim_gives_its_average(ddim, tmp_path, legacy):
    average = fill(Ddim(**DDIM), seed=5)
    torch.save(ddim_list(ddim, average), tmp_path / "ckpt.pth", _use_new_zipfile_serialization=not legacy)
    found = load(tmp_path / "ckpt.pth")
    assert found.layout == "ddim" and found.prior.size == 16  # attention lies at 16 px there
    assert difference(found.prior, average) < 1e-4 < difference(found.prior, ddim)
    assert "the averaged weights" in found.assumed


def test_a_list_without_an_average_says_so(ddim, tmp_path):
    torch.save(ddim_list(ddim, ddim)[:4], tmp_path / "ckpt.pth")
    found = load(tmp_path / "ckpt.pth")
    assert difference(found.prior, ddim) < 1e-4 and "weights without an average" in found.assumed


def test_plain_weights_and_weights_by_name(ddim, tmp_path):
    other = fill(Ddim(**DDIM), seed=5)
    save_file(ddim.state_dict(), tmp_path / "plain.jpg")  # content counts, not the ending
    torch.save({"state_dict": other.state_dict(), "ema": ddim.state_dict(), "epoch": 3}, tmp_path / "nested")
    torch.save({"model": {name: w.half() for name, w in ddim.state_dict().items()}}, tmp_path / "halves")
    for name in ("plain.jpg", "nested", "halves"):
        found = load(tmp_path / name)
        assert difference(found.prior, ddim) < 1e-2 and found.layout == "ddim", name
        assert next(found.prior.network.parameters()).dtype == torch.float32


# -- guided-diffusion ----------------------------------------------------------------------------------------


def test_guided_diffusion_asks_for_its_heads(tmp_path):
    theirs = fill(Guided())
    torch.save(theirs.state_dict(), tmp_path / "256x256_diffusion_uncond.pt")
    with pytest.raises(UsageError, match="heads") as caught:
        load(tmp_path / "256x256_diffusion_uncond.pt")
    assert "--set head_channels=64" in caught.value.hint
    found = load(tmp_path / "256x256_diffusion_uncond.pt", heads=4)
    assert found.layout == "guided-diffusion" and difference(found.prior, theirs) < 1e-4
    assert "its learned variance dropped" in found.assumed
    assert found.prior.size == 32  # 8 px at the coarsest attention, two levels down


def test_improved_diffusion_with_its_schedule(tmp_path):
    theirs = fill(Guided(updown=False))
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    prior = load(tmp_path / "w.pt", 64, heads=4, T=4000, betas="cosine", t_scale=0.25).prior
    assert prior.config.T == prior.t_max == 4000 and prior.size == 64
    x_t = torch.randn(1, 3, SIZE, SIZE)
    ours = prior.predict_noise(x_t, torch.tensor([2001]))
    assert (ours - theirs(x_t, torch.tensor([500]))[:, :3]).abs().max() < 1e-3


# -- hostile -------------------------------------------------------------------------------------------------


def test_weights_that_do_not_hold(ddim, tmp_path):
    path = tmp_path / "hostile.pth"
    for name, (value, words) in hostile.states(dict(ddim.state_dict())).items():
        torch.save(value, path)
        with pytest.raises(IntegrityError) as caught:
            load(path)
        assert words in caught.value.message and "\n" not in caught.value.message, (name, caught.value.message)
        assert str(path) in caught.value.message, name


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("conv_in.weight", (10**5, 3, 3, 3)),
        ("conv_in.weight", (3,)),
        ("conv_in.weight", (0, 3, 3, 3)),
        ("conv_in.weight", (32, 4, 3, 3)),
        ("down.0.block.0.conv1.weight", (33, 32, 3, 3)),
        ("temb.dense.0.weight", (1,)),
        ("conv_out.weight", (6, 32, 3, 3)),
    ],
)
def test_shapes_that_lie(ddim, tmp_path, name, shape):
    save_file(ddim.state_dict() | {name: torch.zeros(shape)}, tmp_path / "w")
    with pytest.raises(IntegrityError) as caught:
        load(tmp_path / "w")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "name", ["time_embed.0.weight", "input_blocks.0.0.weight", "input_blocks.1.0.emb_layers.1.weight"]
)
@pytest.mark.parametrize("shape", [(0,), (7,), (1, 0), (10**4, 3, 3, 3), None])
def test_shapes_of_guided_diffusion_that_lie(tmp_path, name, shape):
    state = fill(Guided(blocks=1)).state_dict()
    state = {n: w for n, w in state.items() if n != name or shape} | ({name: torch.zeros(shape)} if shape else {})
    save_file(state, tmp_path / "w")
    with pytest.raises(IntegrityError) as caught:
        load(tmp_path / "w", heads=4)
    assert "\n" not in caught.value.message
