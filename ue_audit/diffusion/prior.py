"""The prior: a noise predictor trained on raw, unlabelled images, and the one file it lives in.

Purification only ever looks at t <= t_purify, so a prior is trained on t = 1..t_max alone, where the signal
it needs is 10 to 25 times denser than over all T timesteps (its price: it cannot sample images from nothing).
The figure of merit is the PSNR of x0 predicted from held-out images at three noise levels.
"""

import hashlib
import io
import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import pydantic
import safetensors.torch
import torch
from pydantic import Field, model_validator
from torch import Tensor

from ue_audit.config import Config
from ue_audit.diffusion import unet
from ue_audit.diffusion.precision import Precision, autocast
from ue_audit.diffusion.schedule import Betas, Schedule, on
from ue_audit.errors import IntegrityError, UsageError
from ue_audit.header import read_header
from ue_audit.tools import Tools

if TYPE_CHECKING:
    from ue_audit.diffusion import draws

RESIDUAL = 0.12  # residuals are divided by this, so that the network's output is of order one
SIGMAS = (0.05, 0.08, 0.13)  # where a prior is judged: t = 12, 21, 37 of the linear schedule


class PriorConfig(Config):
    """How a prior is built and trained; the defaults are the preset `small`."""

    network: unet.Config = unet.SMALL
    predicts: Literal["residual", "noise"] = "residual"  # residual: sigma(t) * noise, easier to learn at small t
    T: int = Field(default=1000, ge=2, le=10_000)
    betas: Betas = "linear"  # how beta goes from beta_1 to beta_T; cosine: from alpha_bar, without these two
    beta_1: float = Field(default=1e-4, gt=0, lt=1)
    beta_T: float = Field(default=0.02, gt=0, lt=1)
    t_max: int = Field(default=128, ge=1)  # timesteps above are never trained, and never asked for
    steps: int = Field(default=2000, ge=1)
    batch: int = Field(default=16, ge=1)
    optimizer: Literal["muon", "adam"] = "muon"  # Muon for hidden convolutions, Adam for the rest; or Adam alone
    muon_lr: float = Field(default=0.02, gt=0)
    lr: float = Field(default=3e-3, gt=0)  # of Adam
    warmup: int = Field(default=60, ge=0)  # steps in which the rates rise from 0
    decay: Literal["none", "cosine"] = "cosine"  # of the rates, to 0 at the last step
    clip: float = Field(default=1.0, gt=0)  # largest gradient norm; the loss is a mean over pixels
    weighting: float = Field(default=1.0, ge=0, le=2)  # power of sigma(t): 0 noise error, 2 x0 error
    antithetic: bool = True  # half the batch at t, the other half at t_max + 1 - t
    flip: bool = True  # mirror half of the images; false for digits and text
    ema_half_life: float = Field(default=500_000, gt=0)  # images
    ema_ramp: float = Field(default=0.05, gt=0)  # the half-life is at most this share of the images seen
    precision: Precision = "auto"  # auto: bf16 where the hardware multiplies it
    held_out: float = Field(default=0.03, gt=0, lt=1)  # share of the images, at most 256, to judge by
    check_every: int = Field(default=250, ge=1)  # steps between held-out measurements
    patience: int = Field(default=5, ge=1)  # measurements without a gain of 0.01 dB before training stops

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.t_max > self.T:
            raise ValueError(f"t_max = {self.t_max} is above T = {self.T}")
        return self

    @property
    def schedule(self) -> Schedule:
        return Schedule.of(self.betas, self.T, self.beta_1, self.beta_T)


class Prior:
    """A trained network with the schedule it was trained for.

    `size` is the S it was trained at (any other works); `figures` are the held-out PSNR, {"0.05": dB, ...};
    `provenance` is what the file said about its making.
    """

    def __init__(
        self,
        network: unet.UNet,
        config: PriorConfig,
        size: int,
        figures: dict[str, float] | None = None,
        provenance: dict[str, Any] | None = None,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.config = config
        self.size = size
        self.figures = figures or {}
        self.provenance = provenance or {}
        self.schedule = config.schedule
        self.t_max = config.t_max
        self.device = torch.device("cpu")
        self.precision: Precision = config.precision
        self.to("cpu")

    def to(self, device: torch.device | str, precision: Precision | None = None) -> Self:
        """This prior, moved; `precision` ("auto", "bf16", "float32") replaces the one it was trained with."""
        self.device = torch.device(device)
        self.precision = precision or self.precision
        self.network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return self

    def predict_noise(self, x_t: Tensor, t: Tensor) -> Tensor:
        """pred_noise (B,3,S,S) float32 for x_t (B,3,S,S) in [-1,1] and t (B,) of 1..t_max."""
        with autocast(self.device, self.precision):
            return predict_noise(self.network, self.config, self.schedule, x_t, t)

    def features(self, x: Tensor, t: Tensor) -> list[Tensor]:
        """Activations on the way down, finest first, float32: a perceptual space of the prior's own."""
        with autocast(self.device, self.precision):
            maps = self.network.features(x.to(memory_format=torch.channels_last), t)
        return [h.float() for h in maps]

    def to_bytes(self, provenance: dict[str, Any] | None = None) -> bytes:
        """The file: safetensors, configuration and provenance in its header. Equal priors, equal bytes."""
        about = _About(
            config=self.config,
            size=self.size,
            figures=self.figures,
            provenance=self.provenance if provenance is None else provenance,
        )
        text = json.dumps(about.model_dump(mode="json"), sort_keys=True)
        weights = {key: w.cpu().contiguous() for key, w in self.network.state_dict().items()}
        return safetensors.torch.save(weights, {METADATA: text})

    def judged_at(self) -> dict[str, int]:
        """{"0.05": 12, ...}: the noise levels it is judged at and their timesteps, as far as t_max goes."""
        levels = {str(sigma): self.schedule.t_for_sigma(sigma) for sigma in SIGMAS}
        within = {sigma: t for sigma, t in levels.items() if t <= self.t_max}
        return within or {f"{float(self.schedule.sigma(self.t_max)):.3g}": self.t_max}

    def check_timestep(self, t: int) -> None:
        """Raises UsageError for a purification that starts where this prior was never trained."""
        if not 1 <= t <= self.t_max:
            raise UsageError(
                f"this prior was trained for timesteps 1..{self.t_max}, found t_purify = {t}",
                hint=f"purify with t_purify <= {self.t_max}, or train a prior with --set t_max={t}",
            )


def predict_noise(
    network: unet.UNet, config: PriorConfig, schedule: Schedule, x_t: Tensor, t: Tensor
) -> Tensor:
    """pred_noise (B,3,S,S) of a network that predicts what `config.predicts` says."""
    out: Tensor = network(x_t.to(memory_format=torch.channels_last), t)
    if config.predicts == "noise":
        return out
    return out * on(RESIDUAL / schedule.sigma(t), x_t)  # residual = sigma * noise = x_t / sqrt(alpha_bar) - x0


def train(data: "draws.Images", config: PriorConfig, tools: Tools, start: Prior | None = None) -> Prior:
    """As `fit.train`, which is imported only here: purifiers read priors without loading a trainer."""
    from ue_audit.diffusion import fit

    return fit.train(data, config, tools, start)


def denoising_psnr(prior: Prior, batches: Iterable[tuple[Tensor, Tensor]], t: int) -> float:
    """PSNR in dB of x0 predicted from x_t, from the mean squared error over all `(x, noise)`, x in [0,1]."""
    squares, pixels = 0.0, 0
    for x, noise in batches:
        x0, noise = 2 * x.to(prior.device) - 1, noise.to(prior.device)
        x_t = prior.schedule.q_sample(x0, t, noise)
        steps = torch.full((len(x),), t, device=prior.device)
        with torch.no_grad():
            pred = prior.schedule.predict_x0(x_t, prior.predict_noise(x_t, steps), t).clamp(-1, 1)
        squares += float((pred - x0).double().square().sum()) / 4  # [-1,1] -> [0,1]
        pixels += x.numel()
    return float(-10 * torch.tensor(squares / pixels, dtype=torch.float64).log10())


# -- the file ----------------------------------------------------------------------------------------------

METADATA = "ue-audit.prior"
FILE_BYTES = 2**32


def importing(path: Path | str) -> str:
    """How a prior of other code is brought in."""
    return f"of diffusers, ddim or guided-diffusion? bring it in once: ue-audit import-prior {shlex.quote(str(path))}"


def load_prior(path: Path, expect_sha256: str | None = None) -> Prior:
    """The prior in a file, recognised by its content and on the CPU.

    Raises UsageError if there is no such file, IntegrityError if it is anything but a whole, sound prior.
    """
    if path.is_dir():
        raise IntegrityError(f"{path}: expected a prior of ue-audit, found a folder", hint=importing(path))
    try:
        size = path.stat().st_size
        raw = path.read_bytes() if size <= FILE_BYTES else b""
    except OSError as error:
        raise UsageError(f"cannot read the prior {path}: {error.strerror}", hint="see: ue-audit train-prior") from error
    if size > FILE_BYTES:
        raise IntegrityError(f"{path}: expected a prior of at most {FILE_BYTES} bytes, found {size}")
    found = hashlib.sha256(raw).hexdigest()
    if expect_sha256 is not None and found != expect_sha256:
        raise IntegrityError(
            f"{path}: expected sha256 {expect_sha256}, found {found}",
            hint="the file was changed; train it again",
        )
    return _from_bytes(raw, str(path))


def _from_bytes(raw: bytes, where: str) -> Prior:
    if raw[8:9] != b"{" and raw[:1] in (b"P", b"\x80"):
        raise IntegrityError(f"{where}: expected a prior of ue-audit, found a pickle", hint=importing(where))
    header = read_header(io.BytesIO(raw), len(raw), where)
    about = _about(header, where)
    shapes = {key: tuple(entry["shape"]) for key, entry in header.items() if key != "__metadata__"}
    unet.check_shapes(shapes, about.config.network, where)
    try:
        tensors = safetensors.torch.load(raw)
    except (safetensors.SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise IntegrityError(f"{where}: the weights cannot be read: {error}") from error
    unsound = sorted(key for key, w in tensors.items() if w.dtype != torch.float32 or not w.isfinite().all())
    if unsound:
        raise IntegrityError(f"{where}: expected finite float32 weights", details=unsound[:10])
    with torch.random.fork_rng(devices=[]):
        network = unet.UNet(about.config.network)
    network.load_state_dict(tensors)
    return Prior(network, about.config, about.size, about.figures, about.provenance)


class _About(Config):
    """The JSON that rides in the safetensors header."""

    format: Literal[1] = 1
    config: PriorConfig
    size: int = Field(ge=1, le=65_536)
    figures: dict[str, float] = Field(default_factory=dict)
    provenance: dict[str, Any] = Field(default_factory=dict)


def _about(header: dict[str, Any], where: str) -> _About:
    metadata = header.get("__metadata__")
    text = metadata.get(METADATA) if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise IntegrityError(
            f"{where}: safetensors weights, but not a prior of ue-audit (no {METADATA!r} in the header)",
            hint=importing(where),
        )
    try:
        return _About.model_validate_json(text)
    except pydantic.ValidationError as error:
        details = [f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors()][:10]
        raise IntegrityError(f"{where}: the prior's configuration is damaged", details=details) from error
