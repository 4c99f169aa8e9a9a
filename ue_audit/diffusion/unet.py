"""The U-Net of DDPM (arXiv 2006.11239, appendix B) and its small relatives for laptops.

    x_t (B,3,S,S) in [-1,1], t = 1..T  ->  pred_noise (B,3,S,S)

One class: `Config` chooses widths, depth, attention and the grid. `DDPM_CIFAR` is the network of 2020 with
its 35,746,307 parameters. The small networks fold u x u pixels into channels (`unshuffle`), so that all layers
work on a grid of S/u. The last fields of `Config` are what diffusers and guided-diffusion (arXiv 2105.05233) do
otherwise, for weights trained there (`dialects`).

Every network is fully convolutional: an S that its total stride does not divide is padded by reflection.
The first and the last convolution always run in float32, whatever the precision around them: x_t carries more
digits than bf16 holds, and pred_noise is used at full precision.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Literal, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from ue_audit import config as base
from ue_audit.errors import IntegrityError, UsageError


class Config(base.Config):
    """Widths are `channels * multipliers[level]`; each level after the first halves the grid."""

    channels: int = Field(default=128, ge=8, le=512)
    multipliers: tuple[int, ...] = Field(default=(1, 2, 2, 2), min_length=1, max_length=6)
    blocks: int = Field(default=2, ge=1, le=8)  # residual blocks per level going down; one more going up
    attention: tuple[int, ...] = (1,)  # levels with self-attention, from 0
    middle_attention: bool = True
    unshuffle: int = Field(default=1, ge=1, le=8)  # u: u x u pixels become channels before the first layer
    groups: int = Field(default=32, ge=1, le=64)  # of each group normalisation
    norm: Literal["group", "none"] = "group"
    dropout: float = Field(default=0.1, ge=0, lt=1)
    heads: int = Field(default=1, ge=1, le=64)  # of each attention
    head_channels: int | None = Field(default=None, ge=1, le=1024)  # given: as many heads as have so many channels
    norm_epsilon: float = Field(default=1e-6, gt=0, le=1e-2)
    embedding: Literal["sines-first", "cosines-first"] = "sines-first"  # of the timestep
    frequency_shift: Literal[0, 1] = 1  # frequencies exp(-ln(10000) k / (half - shift))
    t_scale: float = Field(default=1.0, gt=0, le=1000)  # what t - 1 is multiplied by before it is embedded
    conditioning: Literal["add", "scale-shift"] = "add"  # what the timestep does to the second normalisation's input
    resample: Literal["convolution", "residual"] = "convolution"  # residual: within a residual block
    padding: Literal["right-below", "around"] = "right-below"  # of the convolution of stride 2

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        if not all(1 <= m <= 16 for m in self.multipliers):
            raise ValueError("multipliers: expected numbers from 1 to 16")
        if self.channels % self.groups:
            raise ValueError(f"channels = {self.channels} is not a multiple of groups = {self.groups}")
        if not all(0 <= level < len(self.multipliers) for level in self.attention):
            raise ValueError(f"attention {self.attention}: expected levels below {len(self.multipliers)}")
        attended = [self.widths[level] for level in self.attention] + self.widths[-1:] * self.middle_attention
        if any(width % (self.head_channels or self.heads) for width in attended):
            raise ValueError(f"heads = {self.heads}, head_channels = {self.head_channels} do not divide {attended}")
        return self

    def heads_of(self, width: int) -> int:
        return width // self.head_channels if self.head_channels else self.heads

    @property
    def widths(self) -> list[int]:
        return [self.channels * m for m in self.multipliers]

    @property
    def stride(self) -> int:
        """S is padded to a multiple of this."""
        return self.unshuffle << (len(self.multipliers) - 1)


DDPM_CIFAR = Config()
SMALL = Config(
    channels=32,
    multipliers=(1, 2),
    blocks=2,
    attention=(),
    middle_attention=False,
    unshuffle=2,
    norm="none",
    groups=8,
    dropout=0,
)


class UNet(nn.Module):
    """See the module. Attributes mirror the drawing: `down`, `middle`, `up`."""

    def __init__(self, config: Config = DDPM_CIFAR) -> None:
        super().__init__()
        self.config = config
        widths, embedding, pixels = config.widths, 4 * config.channels, 3 * config.unshuffle**2
        self.time = nn.Sequential(
            nn.Linear(config.channels, embedding), nn.SiLU(), nn.Linear(embedding, embedding)
        )
        self.conv_in = nn.Conv2d(pixels, widths[0], 3, padding=1)
        skips = [widths[0]]
        self.down = nn.ModuleList()
        for level, width in enumerate(widths):
            last = level == len(widths) - 1
            inputs = [skips[-1]] + [width] * (config.blocks - 1)
            self.down.append(Level(config, level, inputs, width, None if last else _downsample(config, width)))
            skips += [width] * (config.blocks + (not last))
        self.middle = Middle(config, widths[-1])
        self.up = nn.ModuleList()
        below = widths[-1]
        for level, width in reversed(list(enumerate(widths))):
            above = [below] + [width] * config.blocks
            inputs = [above_width + skips.pop() for above_width in above]
            self.up.append(Level(config, level, inputs, width, _upsample(config, width) if level else None))
            below = width
        self.norm_out = _norm(config, widths[0])
        self.conv_out = _zeroed(nn.Conv2d(widths[0], pixels, 3, padding=1))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """pred_noise (B,3,S,S) float32; t is a LongTensor (B,) of 1..T."""
        padded, crop = pad_to(x_t, self.config.stride)
        h, skips, embedding = self._encode(padded, t)
        h = self.middle(h, embedding)
        for level in _levels(self.up):
            for block, attention in level.pairs():
                h = attention(block(torch.cat([h, skips.pop()], 1), embedding))
            h = level.change(h, embedding)
        h = F.silu(self.norm_out(h))
        with torch.autocast(x_t.device.type, enabled=False):
            out = self.conv_out(h.float())
        return F.pixel_shuffle(out, self.config.unshuffle)[crop]

    def features(self, x_t: Tensor, t: Tensor) -> list[Tensor]:
        """The activations (B,C,h,w) at the end of each level on the way down, finest first."""
        _, skips, _ = self._encode(pad_to(x_t, self.config.stride)[0], t)
        per_level = self.config.blocks + 1
        return [skips[(level + 1) * per_level - 1] for level in range(len(self.config.multipliers))]

    def _encode(self, x_t: Tensor, t: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        embedding = F.silu(self.time(embed(t, self.config)))  # (B, 4C)
        with torch.autocast(x_t.device.type, enabled=False):
            h = self.conv_in(F.pixel_unshuffle(x_t.float(), self.config.unshuffle))
        skips = [h]
        for level in _levels(self.down):
            for block, attention in level.pairs():
                h = attention(block(h, embedding))
                skips.append(h)
            if level.has_resample:
                h = level.change(h, embedding)
                skips.append(h)
        return h, skips, embedding


class Level(nn.Module):
    """Residual blocks of one grid size, with or without attention, and the change of grid after them."""

    def __init__(
        self, config: Config, level: int, inputs: list[int], width: int, resample: nn.Module | None
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Residual(config, n, width) for n in inputs)
        attends = level in config.attention
        self.attentions = nn.ModuleList(
            Attention(config, width) if attends else nn.Identity() for _ in inputs
        )
        self.has_resample = resample is not None
        self.resample = resample or nn.Identity()

    def pairs(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        return zip(self.blocks, self.attentions, strict=True)

    def change(self, h: Tensor, embedding: Tensor) -> Tensor:
        """To the next grid."""
        more = (embedding,) if isinstance(self.resample, Residual) else ()
        return cast(Tensor, self.resample(h, *more))


class Middle(nn.Module):
    """Residual, attention, residual on the coarsest grid."""

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Residual(config, width, width) for _ in range(2))
        self.attention = Attention(config, width) if config.middle_attention else nn.Identity()

    def forward(self, h: Tensor, embedding: Tensor) -> Tensor:
        h = self.attention(self.blocks[0](h, embedding))
        return cast(Tensor, self.blocks[1](h, embedding))


class Residual(nn.Module):
    """Two 3x3 convolutions, each after normalisation and swish; the timestep comes in between them.

    `grid` brings both branches to another grid before the first convolution.
    """

    def __init__(self, config: Config, inputs: int, width: int, grid: nn.Module | None = None) -> None:
        super().__init__()
        self.scales = config.conditioning == "scale-shift"
        self.norm1 = _norm(config, inputs)
        self.grid = grid or nn.Identity()
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1)
        self.time = nn.Linear(4 * config.channels, 2 * width if self.scales else width)
        self.norm2 = _norm(config, width)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = _zeroed(nn.Conv2d(width, width, 3, padding=1))
        self.shortcut = nn.Conv2d(inputs, width, 1) if inputs != width else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.conv1(self.grid(F.silu(self.norm1(x))))
        told = self.time(embedding)[:, :, None, None]
        if self.scales:
            scale, shift = told.chunk(2, 1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + told)
        h = self.conv2(self.dropout(F.silu(h)))
        return torch.add(h, self.shortcut(self.grid(x)))


class Attention(nn.Module):
    """Self-attention over all places of the grid."""

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        self.heads = config.heads_of(width)
        self.norm = _norm(config, width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = _zeroed(nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        places = self.norm(x).flatten(2).transpose(1, 2)  # (B, HW, C)
        layers = (self.query, self.key, self.value)
        q, k, v = (layer(places).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in layers)
        mixed = self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return torch.add(x, mixed.transpose(1, 2).reshape(x.shape))


class Downsample(nn.Module):
    """Stride-2 convolution, padded right and below only, or all around."""

    def __init__(self, config: Config, width: int) -> None:
        super().__init__()
        self.pad = (0, 1, 0, 1) if config.padding == "right-below" else (1, 1, 1, 1)
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.conv(F.pad(x, self.pad)))


class Upsample(nn.Module):
    """Nearest neighbour x2, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest")))


def _downsample(config: Config, width: int) -> nn.Module:
    residual = config.resample == "residual"
    return Residual(config, width, width, nn.AvgPool2d(2)) if residual else Downsample(config, width)


def _upsample(config: Config, width: int) -> nn.Module:
    residual = config.resample == "residual"
    return Residual(config, width, width, nn.Upsample(scale_factor=2.0)) if residual else Upsample(width)


def _levels(modules: nn.ModuleList) -> "list[Level]":
    return cast("list[Level]", list(modules))


def embed(t: Tensor, config: Config) -> Tensor:
    """(B, channels): what the network is told of t = 1..T; DDPM counts from 0."""
    waves = sinusoid((t - 1) * config.t_scale, config.channels, config.frequency_shift)
    return waves if config.embedding == "sines-first" else torch.cat(waves.chunk(2, 1)[::-1], 1)


def sinusoid(index: Tensor, width: int, shift: int = 1) -> Tensor:
    """(B, width): sines, then cosines, of index * exp(-ln(10000) k / (width/2 - shift))."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, device=index.device) * (-math.log(10000) / (half - shift)))
    angles = index[:, None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


def pad_to(x: Tensor, stride: int) -> tuple[Tensor, tuple[slice, ...]]:
    """x with both sides padded by reflection to multiples of `stride`, and the slice that undoes it."""
    height, width = x.shape[-2:]
    extra_h, extra_w = -height % stride, -width % stride
    top, left = extra_h // 2, extra_w // 2
    crop = (slice(None), slice(None), slice(top, top + height), slice(left, left + width))
    if not extra_h and not extra_w:
        return x, crop
    if extra_h - top >= height or extra_w - left >= width:
        raise UsageError(f"images of {height}x{width} are too small for this prior, whose stride is {stride}")
    return F.pad(x, (left, extra_w - left, top, extra_h - top), mode="reflect"), crop


def _norm(config: Config, width: int) -> nn.Module:
    return nn.GroupNorm(config.groups, width, eps=config.norm_epsilon) if config.norm == "group" else nn.Identity()


def _zeroed(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    """The last layer of a branch starts at zero, so that the branch starts as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def check_shapes(found: Mapping[str, tuple[int, ...]], config: Config, where: str) -> None:
    """Raises IntegrityError unless names and shapes are exactly those of the network; allocates nothing."""
    with torch.device("meta"):
        due = {key: tuple(value.shape) for key, value in UNet(config).state_dict().items()}
    wrong = [f"{key}: missing" for key in due.keys() - found.keys()]
    wrong += [f"{key}: unknown" for key in found.keys() - due.keys()]
    wrong += [
        f"{key}: expected shape {due[key]}, found {found[key]}"
        for key in due.keys() & found.keys()
        if due[key] != found[key]
    ]
    if wrong:
        raise IntegrityError(
            f"{where}: {len(wrong)} tensor(s) do not fit the network they claim to be",
            hint="is this the right file, with the configuration it was trained with?",
            details=sorted(wrong)[:10],
        )
