"""`UNet2DModel` of diffusers: the names of its tensors in ours, and its config.json as our configuration."""

from collections.abc import Mapping
from typing import Any, Literal

import pydantic
from pydantic import Field, NonNegativeFloat, PositiveInt

from ue_audit.diffusion import unet
from ue_audit.diffusion.shapes import multipliers, shaped
from ue_audit.errors import IntegrityError

NAMES = (
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


def configuration(values: Mapping[str, Any], where: str) -> tuple[unet.Config, int | None]:
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
    config = shaped(
        where,
        channels=widths[0],
        multipliers=multipliers(widths, widths[0], where),
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
