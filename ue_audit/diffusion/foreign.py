"""A prior in the files of other code -> our `Prior`: found in a folder or hub cache, read, recognised, put together.

Nothing outside the folder named is opened, nothing in a file is run (`tensors`), and what no file says is either asked
for or assumed, and then said to be. What it was trained on is not known.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pydantic
from pydantic import Field, PositiveInt
from torch import Tensor

from ue_audit import tensors
from ue_audit.config import Config
from ue_audit.diffusion import ddim_layout, dialects, diffusers_layout, guided_layout, unet
from ue_audit.diffusion.prior import Prior, PriorConfig
from ue_audit.diffusion.schedule import Betas
from ue_audit.errors import IntegrityError, UsageError
from ue_audit.torchfile import ENTRIES

JSON_BYTES = 2**20
WEIGHTS = (
    "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin", "diffusion_pytorch_model.fp16.safetensors",
)  # fmt: skip
SCHEDULERS = ("scheduler/scheduler_config.json", "scheduler_config.json")
NESTED = (
    "ema",
    "ema_model",
    "ema_state_dict",
    "state_dict",
    "model",
    "model_state_dict",
)  # the average before the rest
PREFIXES = ("module.", "_orig_mod.")
UNKNOWN = "unknown"


class Asked(Config):
    """What the files do not say, or say wrongly; null: as they say, else as DDPM has it."""

    T: int | None = Field(None, ge=2, le=10_000)
    betas: Betas | None = None
    beta_1: float | None = Field(None, gt=0, lt=1)
    beta_T: float | None = Field(None, gt=0, lt=1)
    heads: int | None = Field(None, ge=1, le=64)  # of guided-diffusion's attentions
    head_channels: int | None = Field(None, ge=1, le=1024)  # or the channels of each
    qkv: Literal["by-head", "by-role"] = "by-head"  # by-role: guided-diffusion's "new attention order"
    t_scale: float = Field(1.0, gt=0, le=1000)  # improved-diffusion's rescaled timesteps: 1000 / T


class Parts(NamedTuple):
    """The files of a foreign prior."""

    weights: Path
    config: Path | None = None
    scheduler: Path | None = None

    def named(self) -> dict[str, Path]:
        return {name: path for name, path in self._asdict().items() if path is not None}


class Found(NamedTuple):
    """A prior, whose code it comes from, and what of it was assumed."""

    prior: Prior
    layout: str
    assumed: list[str]


# -- the files ---------------------------------------------------------------------------------------------


def find(place: Path) -> Parts:
    """The files of a prior in a file, a diffusers folder, or an entry of a hub cache. Raises IntegrityError."""
    if not place.is_dir():
        return Parts(place)
    inside, folder = _boundary(place), _snapshot(place)
    config = next((p for p in (folder / "config.json", folder / "unet/config.json") if p.exists()), None)
    if config is None:
        raise IntegrityError(
            f"{place}: expected a diffusers folder, found no config.json in it or in unet/",
            hint="of a single file, name the file itself",
        )
    if any(config.parent.glob("*.index.json")):
        raise IntegrityError(f"{place}: weights split over several files are not supported")
    weights = next((p for name in WEIGHTS if (p := config.parent / name).exists()), None)
    if weights is None:
        raise IntegrityError(f"{place}: expected {WEIGHTS[0]} or .bin beside {config.name}, found neither")
    scheduler = next((p for name in SCHEDULERS if (p := folder / name).exists()), None)
    parts = Parts(weights, config, scheduler)
    for path in parts.named().values():
        if not path.resolve().is_relative_to(inside.resolve()) or not path.is_file():
            raise IntegrityError(f"{path}: expected a file within {inside}, found a link out of it or no file")
    return parts


def _boundary(place: Path) -> Path:
    """What links may not lead out of: the folder, or the entry of the hub cache it is a snapshot of."""
    folders = (place.absolute(), *place.absolute().parents)
    return next((f for f in folders if f.name.startswith("models--") and (f / "snapshots").is_dir()), place)


def _snapshot(place: Path) -> Path:
    """Of an entry of a hub cache the snapshot that `main` names, or the only one; else the folder itself."""
    snapshots = place / "snapshots"
    if not place.name.startswith("models--") or not snapshots.is_dir():
        return place
    main, there = place / "refs" / "main", sorted(p.name for p in snapshots.iterdir() if p.is_dir())
    if main.is_file() and main.stat().st_size < 256:
        name = main.read_bytes().decode("ascii", "replace").strip()
        if name in there:
            return snapshots / name
    if len(there) != 1:
        raise IntegrityError(f"{place}: expected one snapshot, found {len(there)}", hint="name a folder in snapshots/")
    return snapshots / there[0]


def _json(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_bytes() if path.stat().st_size <= JSON_BYTES else b""
        value = json.loads(raw.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise IntegrityError(f"{path}: expected JSON of at most 1 MiB, found something else") from error
    if not isinstance(value, dict):
        raise IntegrityError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


# -- the prior ---------------------------------------------------------------------------------------------


def load(parts: Parts, asked: Asked, size: int | None = None) -> Found:
    """The prior in these files. Raises IntegrityError, ResourceError (unreadable), UsageError (heads not named)."""
    where, assumed = str(parts.weights), list[str]()
    state, which = choose(tensors.read(parts.weights), where)
    tensors.check_sound(state, where)
    layout = dialects.recognise(state, where)
    network, side = _network(parts, layout, state, asked)
    schedule = _schedule(parts.scheduler, asked, assumed)
    if which:
        assumed.append(which)
    if dialects.learns_variance(state):
        assumed.append("its learned variance dropped")
    if size is None and side is None:
        side = _side(network, layout)
        assumed.append(f"trained at {side} px")
    built = dialects.build(layout, state, network, where, by_head=asked.qkv == "by-head")
    config = PriorConfig(network=network, predicts="noise", t_max=schedule["T"], **schedule)
    return Found(Prior(built, config, size or side or 1), layout, assumed)


def choose(value: Any, where: str) -> tuple[dict[str, Tensor], str]:
    """The weights in what a file holds, averaged ones first, without prefixes; and which they are, where it has more.

    Raises IntegrityError if there are none.
    """
    which = ""
    if isinstance(value, list | tuple) and value:  # ddim: weights, optimiser, epoch, step, averaged weights
        averaged = len(value) >= 5 and _is_state(value[-1])
        value, which = (value[-1], "the averaged weights") if averaged else (value[0], "weights without an average")
    nested = next((n for n in NESTED if isinstance(value, Mapping) and _is_state(value.get(n))), None)
    if nested is not None:
        value, which = value[nested], f"the weights called {nested!r}"
    if not _is_state(value):
        raise IntegrityError(
            f"{where}: expected tensors by name, found {_described(value)}", hint=f"what would fit: {dialects.KNOWN}"
        )
    state = {str(name): tensor for name, tensor in value.items()}
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state, which


def _is_state(value: Any) -> bool:
    whole = isinstance(value, Mapping) and 0 < len(value) <= ENTRIES
    return whole and all(isinstance(name, str) and isinstance(w, Tensor) for name, w in value.items())


def _described(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dictionary of {', '.join(repr(str(name)[:30]) for name in list(value)[:3]) or 'nothing'}"
    return f"a {type(value).__name__}"


def _network(parts: Parts, layout: str, state: dict[str, Tensor], asked: Asked) -> tuple[unet.Config, int | None]:
    where = str(parts.weights)
    if layout == "diffusers":
        if parts.config is None:
            hint = f"name the folder, which has config.json: {parts.weights.parent}"
            raise IntegrityError(f"{where}: the weights of a diffusers network do not say its shape", hint=hint)
        return diffusers_layout.configuration(_json(parts.config), str(parts.config))
    if parts.config is not None:
        raise IntegrityError(f"{where}: config.json speaks of diffusers, but the weights are of {layout}")
    if layout == "ddim":
        return ddim_layout.configuration(state, where), None
    if any(name.endswith(".qkv.weight") for name in state) and not (asked.heads or asked.head_channels):
        raise UsageError(
            f"{where}: how its attentions are cut into heads cannot be seen in a state dict of guided-diffusion",
            hint="--set head_channels=64 (most of its models), or --set heads=4 (improved-diffusion)",
        )
    named = {name: getattr(asked, name) for name in ("heads", "head_channels", "t_scale") if getattr(asked, name)}
    return guided_layout.configuration(state, where, **named), None


def _side(network: unet.Config, layout: str) -> int:
    """Where those codes put attention: ddim at 16 px, guided-diffusion down to 8."""
    if layout == "ddim":
        return 16 << min(network.attention, default=1)
    return 8 << max(network.attention, default=2)


class Scheduler(pydantic.BaseModel):
    """The fields of a diffusers scheduler that say how images were noised, with its defaults."""

    model_config = pydantic.ConfigDict(extra="ignore", allow_inf_nan=False)

    T: PositiveInt = Field(1000, alias="num_train_timesteps")
    beta_1: float = Field(1e-4, alias="beta_start")
    beta_T: float = Field(0.02, alias="beta_end")
    betas: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = Field("linear", alias="beta_schedule")
    prediction_type: Literal["epsilon"] = "epsilon"
    trained_betas: None = None
    rescale_betas_zero_snr: Literal[False] = False


BETAS = {"linear": "linear", "scaled_linear": "scaled-linear", "squaredcos_cap_v2": "cosine"}


def _schedule(scheduler: Path | None, asked: Asked, assumed: list[str]) -> dict[str, Any]:
    """T, betas, beta_1 and beta_T: asked for, else of the scheduler's file, else DDPM's."""
    found: dict[str, Any] = {"T": 1000, "betas": "linear", "beta_1": 1e-4, "beta_T": 0.02}
    if scheduler is not None:
        try:
            said = Scheduler.model_validate(_json(scheduler))
        except pydantic.ValidationError as error:
            what = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors()[:3])
            hint = "what would fit: a network that predicts the noise, on a linear, scaled linear or cosine schedule"
            raise IntegrityError(f"{scheduler}: a schedule that is not supported; {what}", hint=hint) from error
        found = {"T": said.T, "betas": BETAS[said.betas], "beta_1": said.beta_1, "beta_T": said.beta_T}
    given = {name: getattr(asked, name) for name in found if getattr(asked, name) is not None}
    if scheduler is None and not given:
        assumed.append("T = 1000 and beta linear from 0.0001 to 0.02, as in DDPM")
    found |= given
    try:
        PriorConfig(t_max=1, **found)
    except pydantic.ValidationError as error:
        what = "; ".join(f"{p['loc'][-1]}: {p['msg']}" for p in error.errors()[:3] if p["loc"])
        raise IntegrityError(f"{scheduler}: a schedule that cannot be: {what}") from error
    return found
