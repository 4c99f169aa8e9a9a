"""prior: how it is used, its file, and what a damaged or hostile file meets."""

import contextlib
import hashlib
import json
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch
from pydantic import ValidationError
from waves import TINY

from ue_audit.config import load_preset, preset_names, resolve
from ue_audit.diffusion import unet
from ue_audit.diffusion.prior import METADATA, Prior, PriorConfig, denoising_psnr, load_prior
from ue_audit.errors import IntegrityError, UsageError


@pytest.fixture
def file(prior, tmp_path):
    path = tmp_path / "waves.ckpt"
    path.write_bytes(prior.to_bytes({"raw": "abc"}))
    return path


# -- use ---------------------------------------------------------------------------------------------------


def test_denoising_psnr_of_a_known_error(prior):
    # a network that predicts no noise leaves x_t / sqrt(alpha_bar), whose error is sigma * noise; with noise 1
    # everywhere and x mid-grey nothing is clamped: PSNR = -20 log10(sigma / 2)
    still = Prior(unet.UNet(TINY.network), TINY, 16)
    grey = [(torch.full((2, 3, 16, 16), 0.5), torch.ones(2, 3, 16, 16))]
    expected = -20 * np.log10(float(still.schedule.sigma(30)) / 2)
    assert denoising_psnr(still, grey, 30) == pytest.approx(expected, abs=1e-4)


def test_timesteps_never_trained_are_refused(prior):
    prior.check_timestep(128)
    for t in (0, 129):
        with pytest.raises(UsageError, match=rf"1\.\.128, found t_purify = {t}"):
            prior.check_timestep(t)


def test_pred_noise_is_float32_and_close_in_bf16(prior):
    x_t, t = torch.randn(2, 3, 16, 16), torch.tensor([5, 60])
    exact = prior.to("cpu", "float32").predict_noise(x_t, t)
    rough = prior.to("cpu", "bf16").predict_noise(x_t, t)
    prior.to("cpu", "auto")
    assert exact.dtype == rough.dtype == torch.float32
    assert (exact - rough).abs().max() < 0.05 * exact.abs().max()


def test_features_can_be_differentiated(prior):
    x = torch.randn(2, 3, 16, 16, requires_grad=True)
    sum(h.square().mean() for h in prior.features(x, torch.tensor([1, 1]))).backward()
    assert x.grad is not None and x.grad.abs().sum() > 0


# -- the file ----------------------------------------------------------------------------------------------


def test_a_file_gives_back_the_prior(prior, file):
    read = load_prior(file, hashlib.sha256(file.read_bytes()).hexdigest())
    assert read.config == prior.config and read.size == 16 and read.figures == prior.figures
    assert read.provenance == {"raw": "abc"}
    x_t, t = torch.randn(1, 3, 16, 16), torch.tensor([7])
    assert torch.equal(read.predict_noise(x_t, t), prior.predict_noise(x_t, t))
    assert read.to_bytes() == file.read_bytes()


def test_content_counts_and_not_the_ending(file):
    assert load_prior(file.rename(file.with_suffix(".jpg"))).size == 16


def test_a_missing_file(tmp_path):
    with pytest.raises(UsageError, match="nowhere"):
        load_prior(tmp_path / "nowhere.ckpt")


def test_another_sha256_is_refused(file):
    with pytest.raises(IntegrityError, match="expected sha256 00"):
        load_prior(file, "00" * 32)


def test_every_truncation_is_found(file):
    raw = file.read_bytes()
    header = int.from_bytes(raw[:8], "little")
    for length in [*range(0, 12), header, header + 8, header + 9, len(raw) // 2, len(raw) - 1]:
        file.write_bytes(raw[:length])
        with pytest.raises(IntegrityError):
            load_prior(file)
    file.write_bytes(raw + b"\0")
    with pytest.raises(IntegrityError):
        load_prior(file)


def test_flipped_bits_are_refused_or_harmless(file):
    raw = file.read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    dice = np.random.default_rng(0)
    header = 8 + int.from_bytes(raw[:8], "little")
    for place in [*range(0, 8), *dice.integers(8, header, 60), *dice.integers(header, len(raw), 5)]:
        flipped = bytearray(raw)
        flipped[place] ^= 1 << int(dice.integers(8))
        file.write_bytes(flipped)
        with pytest.raises(IntegrityError, match="sha256"):
            load_prior(file, digest)
        with contextlib.suppress(IntegrityError):
            load_prior(file)  # a digit of the configuration or of a weight may change unseen; nothing crashes


def rewritten(prior: Prior, about=None, **weights) -> bytes:
    text = json.loads(safetensors_metadata(prior.to_bytes()))
    state = {key: value.contiguous() for key, value in prior.network.state_dict().items()} | weights
    state = {key: value for key, value in state.items() if value is not None}
    return safetensors.torch.save(state, {METADATA: json.dumps(text | (about or {}))})


def safetensors_metadata(raw: bytes) -> str:
    length = int.from_bytes(raw[:8], "little")
    return json.loads(raw[8 : 8 + length])["__metadata__"][METADATA]


def hostile_files(prior: Prior) -> dict[str, tuple[bytes, str]]:
    bias = prior.network.state_dict()["conv_in.bias"]
    large = {"channels": 512, "multipliers": [16] * 6, "blocks": 8, "groups": 1}
    deep = b"[" * 100_000
    return {
        "a pickle": (pickle.dumps({"a": 1}, protocol=4), "pickle"),
        "a zip of torch.save": (b"PK\x03\x04" + bytes(100), "pickle"),
        "nothing": (b"", "something else"),
        "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(100), "something else"),
        "an endless header": ((2**63).to_bytes(8, "little") + b"{}", "something else"),
        "no JSON": ((4).to_bytes(8, "little") + b"{{{{", "header is damaged"),
        "nested JSON": (len(deep).to_bytes(8, "little") + deep, "header is damaged"),
        "a list": ((2).to_bytes(8, "little") + b"[]", "header is damaged"),
        "no prior": (safetensors.torch.save({"a": bias}), "not a prior"),
        "NaN": (rewritten(prior, **{"conv_in.bias": bias * torch.nan}), "finite"),
        "infinity": (rewritten(prior, **{"conv_in.bias": bias + torch.inf}), "finite"),
        "whole numbers": (rewritten(prior, **{"conv_in.bias": bias.to(torch.int32)}), "float32"),
        "a wrong shape": (rewritten(prior, **{"conv_in.bias": bias[:3].clone()}), "do not fit"),
        "a missing tensor": (rewritten(prior, **{"conv_in.bias": None}), "do not fit"),
        "an unknown tensor": (rewritten(prior, extra=bias.clone()), "do not fit"),
        "an unknown key": (rewritten(prior, {"surprise": 1}), "configuration is damaged"),
        "a later format": (rewritten(prior, {"format": 2}), "configuration is damaged"),
        "a boundless network": (rewritten(prior, {"config": {"network": large}}), "do not fit"),
        "no configuration": (rewritten(prior, {"config": None}), "configuration is damaged"),
    }


def test_hostile_files_are_refused_in_one_clear_line(prior, tmp_path):
    path = tmp_path / "hostile.ckpt"
    for name, (raw, words) in hostile_files(prior).items():
        path.write_bytes(raw)
        with pytest.raises(IntegrityError) as caught:
            load_prior(path)
        assert words in caught.value.message, name
        assert "hostile.ckpt" in caught.value.message and "\n" not in caught.value.message, name


# -- settings ----------------------------------------------------------------------------------------------


def test_presets_resolve():
    assert {"small", "tiny", "ddpm-cifar"} <= set(preset_names("train-prior"))
    for name in preset_names("train-prior"):
        resolve(PriorConfig, {"preset": load_preset("train-prior", name)}, name)


def test_small_is_the_default_and_ddpm_cifar_the_network_of_2020():
    assert PriorConfig(**load_preset("train-prior", "small")) == PriorConfig()
    assert PriorConfig(**load_preset("train-prior", "ddpm-cifar")).network == unet.DDPM_CIFAR


@pytest.mark.parametrize(
    "fields", [{"t_max": 1001}, {"t_max": 0}, {"batch": 0}, {"lr": 0}, {"held_out": 1}, {"precision": "int8"}, {"x": 1}]
)
def test_settings_that_are_refused(fields):
    with pytest.raises(ValidationError):
        PriorConfig(**fields)
