"""Training a prior, and its file: learning, exact resume, and what a damaged or hostile file meets."""

import contextlib
import hashlib
import json
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch
from pydantic import ValidationError

from ue_audit.config import load_preset, preset_names, resolve
from ue_audit.diffusion import draws, fit, unet
from ue_audit.diffusion.muon import orthogonal
from ue_audit.diffusion.prior import METADATA, Prior, PriorConfig, denoising_psnr, load_prior, train
from ue_audit.errors import IntegrityError, NonFiniteError, UsageError
from ue_audit.tools import Tools

TINY = PriorConfig(
    network=unet.Config(
        channels=16, multipliers=(1, 2), blocks=1, attention=(), middle_attention=False, unshuffle=2, groups=8,
        norm="none", dropout=0,
    ),
    steps=12,
    batch=8,
    check_every=4,
    warmup=2,
    held_out=0.1,
)


class Waves:
    """Smooth images: plane waves of random direction and colour."""

    size = 16

    def __init__(self, n: int = 64) -> None:
        dice = np.random.default_rng(0)
        y, x = np.mgrid[0:16, 0:16] / 16
        turns = dice.uniform(-2, 2, (n, 2, 1, 1, 1))
        phase = dice.uniform(0, 2 * np.pi, (n, 3, 1, 1))
        waves = 0.5 + 0.4 * np.sin(2 * np.pi * (turns[:, 0] * x + turns[:, 1] * y) + phase)
        self.x = torch.from_numpy(waves.astype(np.float32))
        self.seen: set[int] = set()

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, rows):
        self.seen.update(rows.tolist())
        return self.x[rows]


class Killed(Exception):
    pass


class MortalTools(Tools):
    """Saves at every step and dies at the k-th."""

    def __init__(self, *, after: int, **rest) -> None:
        super().__init__(**rest)
        self.left = after

    def save(self, name, state, every=0.0):
        super().save(name, state)
        self.left -= 1
        if self.left == 0:
            raise Killed


def with_fields(config: PriorConfig, **fields) -> PriorConfig:
    return PriorConfig(**{**config.model_dump(), **fields})


@pytest.fixture(scope="module")
def prior() -> Prior:
    return train(Waves(), TINY, Tools())


@pytest.fixture
def file(prior, tmp_path):
    path = tmp_path / "waves.ckpt"
    path.write_bytes(prior.to_bytes({"raw": "abc"}))
    return path


# -- training ----------------------------------------------------------------------------------------------


def test_it_learns_to_denoise():
    config = with_fields(TINY, steps=60, check_every=60, lr=1e-2, muon_lr=0.1)
    prior = train(Waves(), config, Tools())
    # unaided, x_t / sqrt(alpha_bar) has the error sigma in [-1,1]: PSNR -20 log10(sigma / 2)
    noisy = -20 * np.log10(float(prior.schedule.sigma(37)) / 2)
    assert prior.figures["0.13"] > noisy + 1.2


@pytest.mark.parametrize("fields", [{}, {"optimizer": "adam", "decay": "none"}])
@pytest.mark.parametrize("killed_at", [1, 4, 7, 11])
def test_a_killed_training_resumes_exactly(tmp_path, fields, killed_at):
    config = with_fields(TINY, network={**TINY.network.model_dump(), "dropout": 0.2}, **fields)
    unbroken = train(Waves(), config, Tools()).to_bytes()
    with pytest.raises(Killed):
        train(Waves(), config, MortalTools(after=killed_at, work=tmp_path))
    assert train(Waves(), config, Tools(work=tmp_path)).to_bytes() == unbroken


def test_the_seed_decides(prior):
    torch.manual_seed(12345)
    before = torch.random.get_rng_state()
    assert train(Waves(), TINY, Tools()).to_bytes() == prior.to_bytes()
    assert torch.equal(torch.random.get_rng_state(), before)  # nothing global was drawn from
    assert train(Waves(), TINY, Tools(seed=1)).to_bytes() != prior.to_bytes()


def test_held_out_images_are_not_trained_on():
    data, tools = Waves(), Tools()
    rows, held = draws.split(len(data), TINY, tools)
    assert len(held) == 6 and not set(rows.tolist()) & set(held.tolist())
    for step in range(30):
        draws.draw(data, rows, TINY, tools, step)
    assert data.seen <= set(rows.tolist())


def test_draw_is_antithetic_and_depends_on_the_step_alone():
    rows = torch.arange(64)
    for batch in (8, 7):
        config = with_fields(TINY, batch=batch, t_max=36)
        x0, t, noise = draws.draw(Waves(), rows, config, Tools(), 5)
        assert x0.shape == noise.shape == (batch, 3, 16, 16) and len(t) == batch
        half = (batch + 1) // 2
        assert t[half:].tolist() == (37 - t[:half])[: batch - half].tolist()
        assert set(t.tolist()) <= set(range(1, 37))
        again = draws.draw(Waves(), rows, config, Tools(), 5)
        assert all(torch.equal(a, b) for a, b in zip((x0, t, noise), again, strict=True))


def test_flip_mirrors_about_half_and_can_be_off():
    data, rows = Waves(), torch.arange(64)
    config = with_fields(TINY, batch=64)
    plain, _, _ = draws.draw(data, rows, with_fields(config, flip=False), Tools(), 0)
    mixed, _, _ = draws.draw(data, rows, config, Tools(), 0)
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(mixed, plain, strict=True)]
    kept = [torch.equal(a, b) for a, b in zip(mixed, plain, strict=True)]
    assert all(a or b for a, b in zip(mirrored, kept, strict=True)) and 16 < sum(mirrored) < 48


def test_average_forgets_its_start_as_the_formula_says():
    # before the ramp ends the half-life is ramp * batch * step: what is left of the start after n steps
    # is 0.5 ** (1/ramp * (1 + 1/2 + .. + 1/n)); with a constant 0.9999 it would be .905 after 1,000
    ramped = PriorConfig(batch=32)
    left = np.prod([fit.ema_decay(ramped, step) for step in range(1, 1001)])
    assert left == pytest.approx(0.5 ** (20 * sum(1 / n for n in range(1, 1001))))
    constant = PriorConfig(batch=32, ema_half_life=32 * np.log(0.5) / np.log(0.9999), ema_ramp=1e9)
    assert np.prod([fit.ema_decay(constant, s) for s in range(1, 1001)]) == pytest.approx(0.905, abs=1e-3)


def test_rate_rises_then_falls():
    config = PriorConfig(steps=100, warmup=10)
    rates = [fit.rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[99] < 0.001
    assert rates[50] == pytest.approx(0.5)
    assert fit.rate(with_fields(config, decay="none"), 99) == 1


def test_patience_ends_a_training_that_no_longer_gains():
    tools = Tools()
    config = with_fields(TINY, lr=1e-12, muon_lr=1e-12, steps=100, check_every=2, patience=3)
    train(Waves(), config, tools)
    assert tools.notes["steps"] == 2 * (1 + 3) and tools.notes["stopped_early"]


def test_the_best_average_is_returned(prior):
    tools = Tools()
    best = train(Waves(), with_fields(TINY, muon_lr=0.5, lr=0.1, decay="none"), tools)
    means = [np.mean([value for key, value in point.items() if key != "step"]) for point in tools.notes["curve"]]
    assert np.mean(list(best.figures.values())) == pytest.approx(max(means))


def test_fine_tuning_starts_from_the_prior_and_keeps_its_network(prior):
    config = with_fields(TINY, network=unet.Config(), T=50, t_max=50, lr=1e-12, muon_lr=1e-12, steps=4)
    tuned = train(Waves(), config, Tools(seed=3), start=prior)
    assert tuned.config.network == TINY.network and tuned.config.T == 1000 and tuned.t_max == 50
    for a, b in zip(tuned.network.parameters(), prior.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)


def test_a_loss_that_is_no_number_stops():
    data = Waves()
    data.x = data.x * torch.nan
    with pytest.raises(NonFiniteError, match="step"):
        train(data, TINY, Tools())


def test_one_image_is_too_few():
    with pytest.raises(UsageError, match="at least 2"):
        train(Waves(1), TINY, Tools())


def test_a_prior_for_few_timesteps_is_judged_where_it_is_trained():
    assert list(train(Waves(), with_fields(TINY, t_max=25), Tools()).figures) == ["0.05", "0.08"]
    assert len(train(Waves(), with_fields(TINY, t_max=5), Tools()).figures) == 1


def test_orthogonal_sets_singular_values_to_about_one():
    dice = torch.Generator().manual_seed(0)
    for shape in ((8, 30), (30, 8), (16, 16)):
        matrix = torch.randn(*shape, generator=dice)
        values = torch.linalg.svdvals(orthogonal(matrix))
        assert values.min() > 0.3 and values.max() < 1.3
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        mixed = left.T @ orthogonal(matrix) @ right.T  # the singular vectors stay
        torch.testing.assert_close(mixed, mixed.diagonal().diag(), atol=1e-4, rtol=0)


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
