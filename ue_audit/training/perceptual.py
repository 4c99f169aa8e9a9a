"""Perceptual distances: LPIPS-AlexNet (arXiv 1801.03924) and, without its weights, features of the prior.

Both are an embedding h with D_p(x, y) = ||h(x) - h(y)||² per image, so a target is embedded once and a
gradient needs one backward pass. As in eq. 1 of LPIPS, feature maps are divided by their norm over channels,
weighted (by its learned weights; the prior's maps all alike), averaged over space and summed over layers.

The `lpips` package brings the learned weights (a few kB) and the layout. The AlexNet convolutions come from a
file the user has: nothing here downloads.
"""

import os
import pickle
import struct
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ue_audit.diffusion.prior import Prior
from ue_audit.digests import file_sha256
from ue_audit.errors import IntegrityError, ResourceError, UsageError
from ue_audit.tools import Tools

VARIABLE = "UE_AUDIT_LPIPS"
SMALLEST_SIDE = 31  # pixels; below, nothing is left for AlexNet's second pooling
EPSILON = 1e-10  # added to the channel norms, as in LPIPS
DAMAGE = (  # what the two readers raise on bytes that are not what they expect
    SafetensorError, pickle.UnpicklingError, struct.error, RuntimeError, EOFError, ValueError,
    LookupError, TypeError, AttributeError, AssertionError,
)


class Perceptual(Protocol):
    """An embedding, its name, and the sha256 of the weights file behind it."""

    name: str
    sha256: str

    def embed(self, x: Tensor) -> Tensor:
        """(B,3,S,S) in [-1,1] -> (B,F) float32, differentiable."""


class Lpips(nn.Module):
    """LPIPS v0.1 on AlexNet with the convolutions in `weights`: safetensors or a torch state dict.

    Raises ResourceError if the file cannot be read, IntegrityError if these are not AlexNet's convolutions.
    """

    name = "lpips-alex"

    def __init__(self, weights: Path) -> None:
        super().__init__()
        self.network = _empty_lpips()
        state = _trunk(self.network, _read_state(weights), weights) | _heads()
        self.sha256 = file_sha256(weights)
        self.network.load_state_dict(state, strict=False, assign=True)  # but for two buffers, there already
        self.eval().requires_grad_(False)

    def embed(self, x: Tensor) -> Tensor:
        check_side(min(x.shape[2:]))
        scales = [lin.model[-1].weight.clamp_min(0).sqrt() for lin in self.network.lins]  # (1, C, 1, 1) each
        return _embedding(self.network.net(self.network.scaling_layer(x)), scales)

    @torch.no_grad()
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """D_p of images (B,3,S,S) in [0,1], one number (B,) per pair; 0 for equal images."""
        return (self.embed(2 * x - 1) - self.embed(2 * y - 1)).square().sum(1)


class PriorFeatures:
    """Features of the prior on its way down, told t = 1: what serves where there are no LPIPS weights."""

    name = "prior-features"

    def __init__(self, prior: Prior, sha256: str) -> None:
        self.prior, self.sha256 = prior, sha256

    def embed(self, x: Tensor) -> Tensor:
        maps = self.prior.features(x, torch.ones(len(x), dtype=torch.int64, device=x.device))
        return _embedding(maps, [1.0] * len(maps))


def choose(guide: str, prior: Prior, size: int, tools: Tools) -> Perceptual:
    """h by name: "lpips-alex", "prior-features", or for "auto" the first of them that can be had.

    Raises ResourceError if "lpips-alex" is asked for without weights, UsageError if S is too small for it.
    """
    weights = tools.weights("lpips")
    if guide == "lpips-alex":
        check_side(size)
        weights = tools.require_weights("lpips", hint=lpips_hint())
    if guide != "prior-features" and weights is not None and size >= SMALLEST_SIDE:
        return Lpips(weights).to(tools.device)
    return PriorFeatures(prior, file_sha256(tools.require_weights("prior", hint="name one with --prior")))


def check_side(side: int) -> None:
    """Raises UsageError for images AlexNet cannot take."""
    if side < SMALLEST_SIDE:
        raise UsageError(
            f"LPIPS-AlexNet needs images of at least {SMALLEST_SIDE} pixels a side, found {side}",
            hint="use --set guide=prior-features, or --size 32",
        )


def _embedding(maps: Sequence[Tensor], scales: Sequence[Tensor | float]) -> Tensor:
    """(B,F): every map of unit norm over channels, scaled, divided by the root of its number of places."""
    parts = []
    for h, scale in zip(maps, scales, strict=True):
        norm = h.square().sum(1, keepdim=True).clamp_min(EPSILON**2).sqrt()  # clamped: sqrt'(0) is infinite
        parts.append((h / (norm + EPSILON) * scale / (h.shape[2] * h.shape[3]) ** 0.5).flatten(1))
    return torch.cat(parts, 1)


# -- the weights -------------------------------------------------------------------------------------------


def find_lpips_weights(explicit: Path | str | None = None) -> Path | None:
    """AlexNet's convolutions: the file asked for, else the environment variable's, else the torch cache's.

    Raises ResourceError if a file was named that is not there.
    """
    named = explicit or os.environ.get(VARIABLE)
    if not named:
        cache = Path(torch.hub.get_dir()) / "checkpoints"
        return next(iter(sorted(cache.glob("alexnet*.pth"))), None)
    if not Path(named).is_file():
        origin = "--set weights" if explicit else VARIABLE
        raise ResourceError(f"{origin}: expected a file of AlexNet weights at {named}", hint=lpips_hint())
    return Path(named)


def lpips_hint() -> str:
    """How to get the weights, or name a copy."""
    return (
        "get AlexNet once (233 MB): "
        "python -c \"import torchvision; torchvision.models.alexnet(weights='DEFAULT')\"; "
        f"or name a file of its weights with --set weights=FILE or {VARIABLE}=FILE"
    )


def _read_state(path: Path) -> dict[str, Any]:
    """Tensors by name. The content tells the kind of file, and nothing in it is executed."""
    try:
        with path.open("rb") as file:
            is_safetensors = file.read(9)[8:] == b"{"
        state = load_file(path) if is_safetensors else torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        message = f"cannot read the LPIPS weights {path}: {error.strerror}"
        raise ResourceError(message, hint=lpips_hint()) from error
    except DAMAGE as error:
        message = f"{path}: expected whole safetensors or a whole torch state dict, found neither"
        raise IntegrityError(message, hint=lpips_hint()) from error
    if not isinstance(state, dict):
        message = f"{path}: expected tensors by name, found {type(state).__name__}"
        raise IntegrityError(message, hint=lpips_hint())
    return state


def _empty_lpips() -> Any:
    """The package's network, without memory for the weights that are put in place later."""
    import lpips  # here, because importing it takes seconds

    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # it calls torchvision's deprecated `pretrained=`
        return lpips.LPIPS(net="alex", pnet_rand=True, pretrained=False, verbose=False)


def _heads() -> dict[str, Tensor]:
    import lpips

    path = Path(lpips.__file__).parent / "weights/v0.1/alex.pth"
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {**state, **{key.replace("lin", "lins.", 1): state[key] for key in state}}  # listed twice there


def _trunk(network: Any, state: dict[str, Any], where: Path) -> dict[str, Tensor]:
    """torchvision's `features.N.weight` under the package's names, float32."""
    shapes = {key: value.shape for key, value in network.state_dict().items() if key.startswith("net.")}
    names = {key: f"features.{key.split('.', 2)[2]}" for key in shapes}  # net.slice2.3.bias: features.3.bias
    wrong = [
        f"{name}: expected finite numbers of shape {tuple(shapes[key])}, found {_describe(state.get(name))}"
        for key, name in names.items()
        if not _fits(state.get(name), shapes[key])
    ]
    if wrong:
        message = f"{where}: these are not AlexNet's convolutions"
        raise IntegrityError(message, hint=lpips_hint(), details=wrong)
    return {key: state[name].float() for key, name in names.items()}


def _fits(value: Any, shape: torch.Size) -> bool:
    return isinstance(value, Tensor) and value.shape == shape and bool(value.float().isfinite().all())


def _describe(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else "none"
