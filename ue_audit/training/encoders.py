"""Frozen encoders: images (B,3,S,S) in [0,1] -> features (B,F), differentiable in the images.

    own                  a classifier trained on the owner's labels, what its last layer reads; needs labels
    resnet18 resnet50    torchvision's, their pooled features (512, 2048); weights by path
    squeezenet1_1        torchvision's, the pooled input of its last convolution (512); weights by path
    efficientnet-lite0   pooled features (1280); extra `encoders`, which brings weights; others by path
    clip-rn50            the image tower of CLIP's RN50, its embedding (1024); extra `clip`, weights by path
    auto                 what the file of weights turns out to be; without a file `own`

Images are brought to the encoder's side inside the graph, so that a change is found at their own size. All but `own`
know nothing of the owner's labels.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from ue_audit.config import Config
from ue_audit.digests import file_sha256
from ue_audit.errors import UsageError
from ue_audit.tools import Tools
from ue_audit.training import backbones, fit, pretrained, surrogate

CHUNK_PIXELS = 2**21  # encoded together: 41 images of 224 px; has no effect but on memory

Change = Callable[[Tensor], Tensor]  # rows (B,) -> delta (B,3,S,S)


class Encoding(Config):
    """Which encoder, and at what side it sees the images."""

    encoder: Literal["auto", "own", "resnet18", "resnet50", "squeezenet1_1", "efficientnet-lite0", "clip-rn50"] = "auto"
    encoder_side: int | None = Field(None, ge=32, le=1024)  # pixels, of a pretrained one; not given: 224
    own: surrogate.Training = Field(default_factory=lambda: surrogate.Training.model_validate({}))  # of `own`


class Encoder(NamedTuple):
    """A frozen network, and the side it brings images to; None: it takes them as they are."""

    network: Callable[[Tensor], Tensor]
    side: int | None = None

    def __call__(self, x: Tensor) -> Tensor:
        """(B,F) float32."""
        side, size = self.side or x.shape[-1], x.shape[-1]
        if side != size:
            x = F.interpolate(x, (side, side), mode="bilinear", align_corners=False, antialias=side < size)
        with fit.precision(x.device):
            return self.network(x.contiguous(memory_format=torch.channels_last)).float()

    def chunk(self, size: int) -> int:
        """How many images of that side to encode together."""
        return max(1, CHUNK_PIXELS // (self.side or size) ** 2)


def load(config: Encoding, data: Any, tools: Tools) -> Encoder:
    """The encoder on the device; its kind into the manifest. Raises UsageError, ResourceError, IntegrityError."""
    kind, path = choose(config, tools)
    tools.note("label_agnostic", kind != "own")
    if path is None:
        tools.note("encoder", {"kind": kind})
        return Encoder(_own(config, data, tools))
    return given(config, kind, path, tools)


def given(config: Encoding, kind: str, path: Path, tools: Tools) -> Encoder:
    """The pretrained encoder of that kind, on the device. Raises UsageError, IntegrityError."""
    side = config.encoder_side or pretrained.SIDE
    if side != pretrained.SIDE and not pretrained.ARCHITECTURES[kind].any_side:
        raise UsageError(f"{kind} takes images of {pretrained.SIDE} pixels only, found encoder_side = {side}")
    tools.note("encoder", {"kind": kind, "side": side, "sha256": file_sha256(path)})
    return Encoder(fit.freeze(pretrained.load(kind, path)).to(tools.device), side)


def choose(config: Encoding, tools: Tools) -> tuple[str, Path | None]:
    """The kind and the file of its weights; no file for `own`."""
    kind, path = config.encoder, tools.weights("encoder")
    if kind == "own" or (kind == "auto" and path is None):
        unused = "weights of an encoder" if path else "encoder_side" if config.encoder_side else ""
        if unused:
            raise UsageError(f"found {unused} for an encoder that is trained here", hint="drop it, or name an encoder")
        return "own", None
    if kind == "efficientnet-lite0" and path is None:
        return kind, pretrained.brought()
    path = tools.require_weights("encoder", hint=pretrained.hint(kind))
    return (pretrained.recognise(path) if kind == "auto" else kind), path


def _own(config: Encoding, data: Any, tools: Tools) -> Callable[[Tensor], Tensor]:
    if data.labels is None or len(data.classes) < 2:
        found = "no class folders" if data.labels is None else f"{len(data.classes)} class"
        raise UsageError(
            f"expected labels to train an encoder on, or the weights of an encoder, found {found}",
            hint="name a file of weights with --encoder FILE, or use --set encoder=efficientnet-lite0",
        )
    (network,) = surrogate.train(data, data.labels, config.own, tools, lambda x, draw: fit.seen(x, config.own, draw))
    return partial(surrogate.features_of, network)


def untrained(config: Encoding, data: Any, tools: Tools) -> Encoder:
    """An encoder that takes as long as `own`, to be timed."""
    network = backbones.build(config.own.surrogate, max(2, len(data.classes)), 0).to(tools.device)
    return Encoder(partial(surrogate.features_of, fit.freeze(network)))


def features(encode: Encoder, data: Any, rows: Tensor, tools: Tools, delta: Change | None = None) -> np.ndarray:
    """(n,F) float32 of these rows, held in the work folder; with `delta` those of x + delta, rounded to 8 bits."""
    table, done = np.zeros((0, 0), np.float32), 0
    tools.progress.start("encoding", len(rows), "images")
    for some in torch.split(rows, encode.chunk(data.size)):
        x = data.batch(some)
        if delta is not None:
            x = (255 * (x + delta(some).cpu())).round().clamp(0, 255) / 255
        with torch.no_grad():
            h = encode(x.to(tools.device)).cpu().numpy()
        if not done:
            table = tools.array("features", (len(rows), h.shape[1]), "float32")
        table[done : done + len(h)] = h
        done += len(h)
        tools.progress.advance(len(h))
    return table
