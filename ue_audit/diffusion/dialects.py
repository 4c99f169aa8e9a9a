"""Noise predictors of other code, told apart by the names of their tensors and brought into our `unet.UNet`.

    diffusers         `UNet2DModel`; its shape is in a config.json
    ddim              ermongroup/ddim, the code of JCDP's released checkpoints; its shape follows from the tensors
    guided-diffusion  and improved-diffusion, its elder: scale-shift conditioning, heads, learned variance

What a learned variance adds to the output is dropped: a purifier takes the predicted noise only.
"""

import re
from collections.abc import Iterator, Mapping
from itertools import count, takewhile
from typing import Any, Literal, cast

import pydantic
import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor

from ue_audit.diffusion import unet
from ue_audit.errors import IntegrityError

State = Mapping[str, Tensor]
Layout = Literal["diffusers", "ddim", "guided-diffusion"]

KNOWN = "a diffusers UNet2DModel folder, a checkpoint of ermongroup/ddim, or a state dict of guided-diffusion"
FIRST = {
    "time_embedding.linear_1.weight": "diffusers",
    "temb.dense.0.weight": "ddim",
    "time_embed.0.weight": "guided-diffusion",
}
OTHERS = (  # a name that gives another network away, and what it is
    ("time.0.weight", "a network of ue-audit; name the prior it comes from"),
    ("init_conv.weight", "the network of denoising-diffusion-pytorch, which normalises otherwise"),
    ("model.map_layer0.weight", "a network of EDM, which is told the noise level and not a timestep"),
    ("model.diffusion_model.time_embed.0.weight", "a latent diffusion model, which does not work on pixels"),
    ("module.time_embed.0.weight", "a network below a prefix"),
)


def recognise(state: State, where: str) -> Layout:
    """Whose network the tensors are. Raises IntegrityError for one that cannot be expressed."""
    names = set(state)
    for first, layout in FIRST.items():
        if first in names:
            _refuse_conditional(names, where)
            return cast(Layout, layout)
    found = next((what for name, what in OTHERS if name in names), f"a network whose tensors begin with {_some(names)}")
    raise IntegrityError(f"{where}: expected {KNOWN}, found {found}", hint=f"what would fit: {KNOWN}")


def _refuse_conditional(names: set[str], where: str) -> None:
    if any(".transformer_blocks." in name or ".encoder_kv." in name for name in names):
        raise IntegrityError(f"{where}: this network is conditioned on text; a prior must be unconditional")
    if any(name.startswith(("label_emb.", "class_embedding.")) for name in names):
        raise IntegrityError(f"{where}: this network is conditioned on class labels; a prior must be unconditional")


def _some(names: set[str]) -> str:
    return repr(min(names)[:60]) if names else "nothing"


def build(layout: Layout, state: State, config: unet.Config, where: str, legacy: bool = True) -> unet.UNet:
    """The network with these weights, float32. Raises IntegrityError naming what does not fit.

    `legacy`: guided-diffusion's heads each hold their own query, key and value; else all queries come first.
    """
    if layout == "guided-diffusion":
        renamed = _of_guided(state, config, legacy)
    else:
        rules = DIFFUSERS if layout == "diffusers" else _of_ddim(config)
        renamed = {_rename(name, rules): value for name, value in state.items()}
    ours = {name: _without_variance(name, _flat(name, value)) for name, value in renamed.items()}
    unet.check_shapes({name: tuple(value.shape) for name, value in ours.items()}, config, where)
    with torch.random.fork_rng(devices=[]):
        network = unet.UNet(config)
    network.load_state_dict({name: value.float() for name, value in ours.items()})
    return network


def _rename(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for old, new in rules:
        name = re.sub(old, new, name)
    return name


def _flat(name: str, value: Tensor) -> Tensor:
    """The 1x1 convolutions of attentions are linear layers here."""
    linear = re.search(r"\.(query|key|value|out)\.weight$", name)
    return value.flatten(1) if linear and set(value.shape[2:]) == {1} else value


def _without_variance(name: str, value: Tensor) -> Tensor:
    return value[:3] if name.startswith("conv_out.") and len(value) == 6 else value


def _config(where: str, **fields: Any) -> unet.Config:
    try:
        return unet.Config(**fields)
    except pydantic.ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}".removeprefix(": ") for p in error.errors()[:3])
        raise IntegrityError(f"{where}: a network beyond what can be expressed: {what}") from error


def _multipliers(widths: list[int], channels: int, where: str) -> tuple[int, ...]:
    if channels < 1 or any(width % channels for width in widths):
        raise IntegrityError(f"{where}: expected widths that are multiples of {channels}, found {widths[:6]}")
    return tuple(width // channels for width in widths)


def _shape(state: State, name: str, dims: int, where: str) -> tuple[int, ...]:
    found = tuple(state[name].shape) if name in state else ()
    if len(found) != dims:
        raise IntegrityError(f"{where}: expected a tensor {name} of {dims} dimensions, found {found or 'none'}")
    return found


def _while_there(state: State, pattern: str) -> Iterator[int]:
    return takewhile(lambda number: pattern.format(number) in state, count())


def _check_pixels(state: State, first: str, where: str) -> None:
    channels = _shape(state, first, 4, where)[1]
    if channels != 3:
        raise IntegrityError(f"{where}: expected a network of images in colour (3 channels), found {channels} channels")


# -- diffusers ---------------------------------------------------------------------------------------------

DIFFUSERS = (
    (r"^time_embedding\.linear_1\.", "time.0."),
    (r"^time_embedding\.linear_2\.", "time.2."),
    (r"^conv_norm_out\.", "norm_out."),
    (r"^(down|up)_blocks\.", r"\1."),
    (r"^mid_block\.attentions\.0\.", "middle.attention."),
    (r"^mid_block\.", "middle."),
    (r"\.resnets\.", ".blocks."),
    (r"\.(down|up)samplers\.0\.", ".resample."),
    (r"\.time_emb_proj\.", ".time."),
    (r"\.conv_shortcut\.", ".shortcut."),
    (r"\.group_norm\.", ".norm."),
    (r"\.to_q\.", ".query."),
    (r"\.to_k\.", ".key."),
    (r"\.to_v\.", ".value."),
    (r"\.(to_out\.0|proj_attn)\.", ".out."),
)
PLAIN, ATTENDING = ("DownBlock2D", "UpBlock2D"), ("AttnDownBlock2D", "AttnUpBlock2D")


class UNet2D(pydantic.BaseModel):
    """The fields of a diffusers `UNet2DModel` config.json, with its defaults; what is not expressed is refused."""

    model_config = pydantic.ConfigDict(extra="allow", allow_inf_nan=False)

    class_name: Literal["UNet2DModel"] = Field(alias="_class_name")
    sample_size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None
    in_channels: Literal[3] = 3
    out_channels: Literal[3, 6] = 3
    center_input_sample: Literal[False] = False
    time_embedding_type: Literal["positional"] = "positional"
    freq_shift: Literal[0, 1] = 0
    flip_sin_to_cos: bool = True
    down_block_types: tuple[str, ...] = ("DownBlock2D", *("AttnDownBlock2D",) * 3)
    mid_block_type: Literal["UNetMidBlock2D"] = "UNetMidBlock2D"
    up_block_types: tuple[str, ...] = (*("AttnUpBlock2D",) * 3, "UpBlock2D")
    block_out_channels: tuple[PositiveInt, ...] = Field((224, 448, 672, 896), min_length=1)
    layers_per_block: PositiveInt = 2
    mid_block_scale_factor: Literal[1] = 1
    downsample_padding: Literal[0, 1] = 1
    downsample_type: Literal["conv"] = "conv"
    upsample_type: Literal["conv"] = "conv"
    dropout: NonNegativeFloat = 0.0
    act_fn: Literal["silu", "swish"] = "silu"
    attention_head_dim: PositiveInt | None = 8
    norm_num_groups: PositiveInt = 32
    norm_eps: NonNegativeFloat = 1e-5
    resnet_time_scale_shift: Literal["default"] = "default"  # with scale_shift its middle attention has no norm
    add_attention: bool = True


def of_diffusers(values: Mapping[str, Any], where: str) -> tuple[unet.Config, int | None]:
    """Our configuration for a config.json, and the side it was trained at. Raises IntegrityError."""
    try:
        found = UNet2D.model_validate(values)
    except pydantic.ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, p['loc']))[:60]}: {p['msg']}" for p in error.errors()[:3])
        hint = "what would fit: an unconditional UNet2DModel of plain and Attn blocks on RGB images"
        raise IntegrityError(f"{where}: expected the configuration of a UNet2DModel; {what}", hint=hint) from error
    more = [name for name, value in (found.model_extra or {}).items() if value and not name.startswith("_")]
    if more:
        raise IntegrityError(f"{where}: what {', '.join(map(repr, sorted(more)[:3]))} asks for is not supported")
    attending = [_attends(kind, where) for kind in found.down_block_types]
    widths = list(found.block_out_channels)
    if len(widths) != len(attending) or [_attends(kind, where) for kind in found.up_block_types[::-1]] != attending:
        raise IntegrityError(f"{where}: expected as many widths as blocks, and blocks going up as those going down")
    config = _config(
        where,
        channels=widths[0],
        multipliers=_multipliers(widths, widths[0], where),
        blocks=found.layers_per_block,
        attention=tuple(level for level, attends in enumerate(attending) if attends),
        middle_attention=found.add_attention,
        groups=found.norm_num_groups,
        dropout=found.dropout,
        head_channels=found.attention_head_dim,
        norm_epsilon=found.norm_eps,
        embedding="cosines-first" if found.flip_sin_to_cos else "sines-first",
        frequency_shift=found.freq_shift,
        padding="around" if found.downsample_padding else "right-below",
    )
    side = found.sample_size
    return config, min(side) if isinstance(side, tuple) else side


def _attends(kind: str, where: str) -> bool:
    if kind not in (*PLAIN, *ATTENDING):
        raise IntegrityError(f"{where}: expected blocks {', '.join(PLAIN + ATTENDING)}, found {kind[:40]!r}")
    return kind in ATTENDING


# -- ddim --------------------------------------------------------------------------------------------------


def of_ddim(state: State, where: str) -> unet.Config:
    """The configuration that the tensors of ermongroup/ddim show. Raises IntegrityError."""
    _check_pixels(state, "conv_in.weight", where)
    channels = _shape(state, "conv_in.weight", 4, where)[0]
    levels = list(_while_there(state, "down.{}.block.0.conv1.weight"))
    widths = [_shape(state, f"down.{level}.block.0.conv1.weight", 4, where)[0] for level in levels]
    return _config(
        where,
        channels=channels,
        multipliers=_multipliers(widths, channels, where),
        blocks=len(list(_while_there(state, "down.0.block.{}.conv1.weight"))),
        attention=tuple(level for level in levels if f"down.{level}.attn.0.q.weight" in state),
        middle_attention="mid.attn_1.q.weight" in state,
    )


def _of_ddim(config: unet.Config) -> tuple[tuple[str, str], ...]:
    top = len(config.multipliers) - 1
    turned = tuple((rf"^up\.{level}\.", f"UP.{top - level}.") for level in range(top + 1))  # from fine to coarse there
    return (
        *turned,
        (r"^UP\.", "up."),
        (r"^temb\.dense\.0\.", "time.0."),
        (r"^temb\.dense\.1\.", "time.2."),
        (r"^mid\.attn_1\.", "middle.attention."),
        (r"^mid\.block_1\.", "middle.blocks.0."),
        (r"^mid\.block_2\.", "middle.blocks.1."),
        (r"^((?:down|up)\.\d+)\.block\.", r"\1.blocks."),
        (r"^((?:down|up)\.\d+)\.attn\.", r"\1.attentions."),
        (r"\.(down|up)sample\.", ".resample."),
        (r"\.temb_proj\.", ".time."),
        (r"\.nin_shortcut\.", ".shortcut."),
        (r"\.q\.", ".query."),
        (r"\.k\.", ".key."),
        (r"\.v\.", ".value."),
        (r"\.proj_out\.", ".out."),
    )


# -- guided-diffusion --------------------------------------------------------------------------------------

BLOCK = {
    "in_layers.0.": "norm1.", "in_layers.2.": "conv1.", "emb_layers.1.": "time.", "out_layers.0.": "norm2.",
    "out_layers.3.": "conv2.", "skip_connection.": "shortcut.",
}  # fmt: skip


def of_guided(state: State, where: str, **asked: Any) -> unet.Config:
    """The configuration that the tensors of guided-diffusion show; heads and t_scale they do not. IntegrityError."""
    _check_pixels(state, "input_blocks.0.0.weight", where)
    channels = _shape(state, "time_embed.0.weight", 2, where)[1]
    total = len(list(_while_there_either(state, "input_blocks.{}.0.")))
    per_level = _blocks_per_level(state, total)
    if not per_level or total % per_level:
        raise IntegrityError(f"{where}: {total} blocks going down are not the levels of a guided-diffusion network")
    starts = range(1, total, per_level)
    widths = [_shape(state, f"input_blocks.{i}.0.out_layers.3.weight", 4, where)[0] for i in starts]
    told = _shape(state, "input_blocks.1.0.emb_layers.1.weight", 2, where)[0]
    return _config(
        where,
        channels=channels,
        multipliers=_multipliers(widths, channels, where),
        blocks=per_level - 1,
        attention=tuple(level for level, i in enumerate(starts) if f"input_blocks.{i}.1.qkv.weight" in state),
        middle_attention="middle_block.1.qkv.weight" in state,
        dropout=0.0,
        norm_epsilon=1e-5,
        embedding="cosines-first",
        frequency_shift=0,
        conditioning="scale-shift" if told == 2 * widths[0] else "add",
        resample="convolution" if len(widths) == 1 or f"input_blocks.{per_level}.0.op.weight" in state else "residual",
        padding="around",
        **asked,
    )


def _while_there_either(state: State, pattern: str) -> Iterator[int]:
    firsts = {name.rpartition(".")[0] for name in state}
    ends = ("in_layers.0", "op")
    yield from takewhile(
        lambda i: i == 0 or any(pattern.format(i) + end in firsts for end in ends), count()
    )


def _blocks_per_level(state: State, total: int) -> int:
    """One more than the residual blocks of a level: the first block going up that ends with a change of grid."""
    ends = ("1.conv.weight", "2.conv.weight", "1.in_layers.0.weight", "2.in_layers.0.weight")
    found = (i + 1 for i in range(total) if any(f"output_blocks.{i}.{end}" in state for end in ends))
    return next(found, total)


def _of_guided(state: State, config: unet.Config, legacy: bool) -> dict[str, Tensor]:
    places = dict(_places(config))
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        prefix = next((p for p in _prefixes(name) if p in places), "")
        rest = name[len(prefix) :]
        rest = next((new + rest[len(old) :] for old, new in BLOCK.items() if rest.startswith(old)), rest)
        if rest.startswith("qkv."):
            parts = _split(value, config, legacy)
            renamed |= {f"{places[prefix]}{which}.{rest[4:]}": part for which, part in parts.items()}
        else:
            rest = rest.replace("proj_out.", "out.") if rest.startswith("proj_out.") else rest.removeprefix("op.")
            renamed[places.get(prefix, prefix) + rest] = value
    return renamed


def _prefixes(name: str) -> Iterator[str]:
    """"a.b.c.weight" -> "a.b.c.", "a.b.", "a."."""
    parts = name.split(".")
    for length in range(min(len(parts) - 1, 4), 0, -1):
        yield ".".join(parts[:length]) + "."


def _places(config: unet.Config) -> Iterator[tuple[str, str]]:
    """Where the parts of a guided-diffusion network are in ours, by the beginning of their names."""
    levels, per_level = len(config.multipliers), config.blocks + 1
    residual = config.resample == "residual"
    yield from (("time_embed.", "time."), ("input_blocks.0.0.", "conv_in."), ("out.0.", "norm_out."))
    yield from (("out.2.", "conv_out."), ("middle_block.0.", "middle.blocks.0."), ("middle_block.1.", "middle.attention."))
    yield "middle_block.2.", "middle.blocks.1."
    for level in range(levels):
        for block in range(config.blocks):
            i = 1 + level * per_level + block
            yield f"input_blocks.{i}.0.", f"down.{level}.blocks.{block}."
            yield f"input_blocks.{i}.1.", f"down.{level}.attentions.{block}."
        yield f"input_blocks.{(level + 1) * per_level}.0.", f"down.{level}.resample." + ("" if residual else "conv.")
    for i in range(levels * per_level):
        up, block = divmod(i, per_level)
        attends = levels - 1 - up in config.attention
        yield f"output_blocks.{i}.0.", f"up.{up}.blocks.{block}."
        if attends:
            yield f"output_blocks.{i}.1.", f"up.{up}.attentions.{block}."
        yield f"output_blocks.{i}.{2 if attends else 1}.", f"up.{up}.resample."


def _split(value: Tensor, config: unet.Config, legacy: bool) -> dict[str, Tensor]:
    """Query, key and value of one convolution (3C,C,1) or bias (3C,)."""
    width = len(value) // 3
    heads = max(1, config.heads_of(width))
    if len(value) % (3 * heads):
        return {"query": value}  # of a shape that will be refused
    grouped = value.unflatten(0, (heads, 3, -1)).transpose(0, 1) if legacy else value.unflatten(0, (3, heads, -1))
    return {name: part.flatten(0, 1) for name, part in zip(("query", "key", "value"), grouped, strict=True)}
