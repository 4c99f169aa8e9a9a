"""Perceptual distances: LPIPS (arXiv 1801.03924) on AlexNet or VGG16 and, without weights, features of the prior.

Both are an embedding h with D_p(x, y) = ||h(x) - h(y)||² per image, so a target is embedded once and a
gradient needs one backward pass. As in eq. 1 of LPIPS, feature maps are divided by their norm over channels,
weighted (by its learned weights; the prior's maps all alike), averaged over space and summed over layers.

The `lpips` package brings the learned weights (a few kB) and the layout. The convolutions come from a file the
user has (`lpips_weights`).
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from ue_audit.diffusion.prior import Prior
from ue_audit.digests import file_sha256
from ue_audit.errors import IntegrityError, UsageError
from ue_audit.tools import Tools
from ue_audit.training import lpips_weights
from ue_audit.training.lpips_weights import Net

SMALLEST_SIDE: dict[Net, int] = {"alex": 31, "vgg": 16}  # pixels; below, nothing is left for the last pooling
ROLES: dict[Net, str] = {"alex": "lpips", "vgg": "lpips-vgg"}  # what a stage calls the weights
EPSILON = 1e-10  # added to the channel norms, as in LPIPS


class Perceptual(Protocol):
    """An embedding, its name, and the sha256 of the weights file behind it."""

    name: str
    sha256: str

    def embed(self, x: Tensor) -> Tensor:
        """(B,3,S,S) in [-1,1] -> (B,F) float32, differentiable."""


class Lpips(nn.Module):
    """LPIPS v0.1 on AlexNet or VGG16 with the convolutions in `weights`: safetensors or a torch state dict.

    Raises ResourceError if the file cannot be read, IntegrityError if these are not that network's convolutions.
    """

    def __init__(self, weights: Path, net: Net = "alex") -> None:
        super().__init__()
        self.net: Net = net
        self.name = f"lpips-{net}"
        self.network = _empty_lpips(net)
        state = _trunk(self.network, lpips_weights.read(weights, net), weights, net) | _heads(net)
        self.sha256 = file_sha256(weights)
        self.network.load_state_dict(state, strict=False, assign=True)  # but for two buffers, there already
        self.eval().requires_grad_(False)

    def embed(self, x: Tensor) -> Tensor:
        check_side(min(x.shape[2:]), self.net)
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
    """h by name: "lpips-alex", "lpips-vgg", "prior-features"; "auto": LPIPS on AlexNet, else features of the prior.

    Raises ResourceError if LPIPS is asked for without weights, UsageError if S is too small for it.
    """
    net: Net = "vgg" if guide == "lpips-vgg" else "alex"
    role = ROLES[net]
    weights = tools.weights(role)
    if guide == f"lpips-{net}":
        check_side(size, net)
        weights = tools.require_weights(role, hint=lpips_weights.hint(net))
    if guide != "prior-features" and weights is not None and size >= SMALLEST_SIDE[net]:
        return Lpips(weights, net).to(tools.device)
    return PriorFeatures(prior, file_sha256(tools.require_weights("prior", hint="name one with --prior")))


def check_side(side: int, net: Net = "alex") -> None:
    """Raises UsageError for images that the network cannot take."""
    if side < SMALLEST_SIDE[net]:
        raise UsageError(
            f"LPIPS-{lpips_weights.TRUNKS[net].title} needs images of at least {SMALLEST_SIDE[net]} pixels a side, "
            f"found {side}",
            hint=f"use --set guide=prior-features, or --size {32 if net == 'alex' else 16}",
        )


def _embedding(maps: Sequence[Tensor], scales: Sequence[Tensor | float]) -> Tensor:
    """(B,F): every map of unit norm over channels, scaled, divided by the root of its number of places."""
    parts = []
    for h, scale in zip(maps, scales, strict=True):
        norm = h.square().sum(1, keepdim=True).clamp_min(EPSILON**2).sqrt()  # clamped: sqrt'(0) is infinite
        parts.append((h / (norm + EPSILON) * scale / (h.shape[2] * h.shape[3]) ** 0.5).flatten(1))
    return torch.cat(parts, 1)


# -- the network -------------------------------------------------------------------------------------------


def _empty_lpips(net: Net) -> Any:
    """The package's network, without memory for the weights that are put in place later."""
    import lpips  # here, because importing it takes seconds

    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # it calls torchvision's deprecated `pretrained=`
        return lpips.LPIPS(net=net, pnet_rand=True, pretrained=False, verbose=False)


def _heads(net: Net) -> dict[str, Tensor]:
    import lpips

    path = Path(lpips.__file__).parent / f"weights/v0.1/{net}.pth"
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {**state, **{key.replace("lin", "lins.", 1): state[key] for key in state}}  # listed twice there


def _trunk(network: Any, state: dict[str, Any], where: Path, net: Net) -> dict[str, Tensor]:
    """torchvision's `features.N.weight` under the package's names, float32."""
    shapes = {key: value.shape for key, value in network.state_dict().items() if key.startswith("net.")}
    names = {key: f"features.{key.split('.', 2)[2]}" for key in shapes}  # net.slice2.3.bias: features.3.bias
    wrong = [
        f"{name}: expected finite numbers of shape {tuple(shapes[key])}, found {_describe(state.get(name))}"
        for key, name in names.items()
        if not _fits(state.get(name), shapes[key])
    ]
    if wrong:
        message = f"{where}: these are not the convolutions of {lpips_weights.TRUNKS[net].title}"
        raise IntegrityError(message, hint=lpips_weights.hint(net), details=wrong)
    return {key: state[name].float() for key, name in names.items()}


def _fits(value: Any, shape: torch.Size) -> bool:
    return isinstance(value, Tensor) and value.shape == shape and bool(value.float().isfinite().all())


def _describe(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else "none"
