"""The U-Net of guided-diffusion (arXiv 2105.05233) and improved-diffusion; its tensors show all but the heads.

All its parts lie in the rows `input_blocks` and `output_blocks`, a change of grid being a part like any other.
"""

import re
from collections.abc import Iterator
from itertools import count, takewhile
from typing import Any

from torch import Tensor

from ue_audit.diffusion import unet
from ue_audit.diffusion.shapes import State, check_pixels, multipliers, shape, shaped
from ue_audit.errors import IntegrityError

BLOCK = {
    "in_layers.0.": "norm1.", "in_layers.2.": "conv1.", "emb_layers.1.": "time.", "out_layers.0.": "norm2.",
    "out_layers.3.": "conv2.", "skip_connection.": "shortcut.",
}  # fmt: skip


def configuration(state: State, where: str, **asked: Any) -> unet.Config:
    """The configuration that the tensors of guided-diffusion show; heads and t_scale they do not. IntegrityError."""
    check_pixels(state, "input_blocks.0.0.weight", where)
    channels = shape(state, "time_embed.0.weight", 2, where)[1]
    total = len(list(_blocks_down(state)))
    per_level = _blocks_per_level(state, total)
    if not per_level or total % per_level:
        raise IntegrityError(f"{where}: {total} blocks going down are not the levels of a guided-diffusion network")
    starts = range(1, total, per_level)
    widths = [shape(state, f"input_blocks.{i}.0.out_layers.3.weight", 4, where)[0] for i in starts]
    told = shape(state, "input_blocks.1.0.emb_layers.1.weight", 2, where)[0]
    return shaped(
        where,
        channels=channels,
        multipliers=multipliers(widths, channels, where),
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


def _blocks_down(state: State) -> Iterator[int]:
    """The numbers of the input blocks, from the first convolution to the first gap."""
    parts = {name.rpartition(".")[0] for name in state}
    ends = ("in_layers.0", "op")
    return takewhile(lambda i: i == 0 or any(f"input_blocks.{i}.0.{end}" in parts for end in ends), count())


def _blocks_per_level(state: State, total: int) -> int:
    """One more than the residual blocks of a level: the first block going up that ends with a change of grid."""
    ends = ("1.conv.weight", "2.conv.weight", "1.in_layers.0.weight", "2.in_layers.0.weight")
    found = (i + 1 for i in range(total) if any(f"output_blocks.{i}.{end}" in state for end in ends))
    return next(found, total)


def renamed(state: State, config: unet.Config, by_head: bool) -> dict[str, Tensor]:
    """Their tensors by our names, query, key and value apart."""
    places = dict(_places(config))
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        prefix = next((p for p in _prefixes(name) if p in places), "")
        rest = name[len(prefix) :]
        rest = next((new + rest[len(old) :] for old, new in BLOCK.items() if rest.startswith(old)), rest)
        if rest.startswith("qkv."):
            parts = _split(value, config, by_head)
            found |= {f"{places.get(prefix, prefix)}{which}.{rest[4:]}": part for which, part in parts.items()}
        else:
            rest = re.sub(r"^(proj_out\.)|^op\.", lambda m: "out." if m[1] else "", rest)
            found[places.get(prefix, prefix) + rest] = value
    return found


def _prefixes(name: str) -> Iterator[str]:
    """ "a.b.c.weight" -> "a.b.c.", "a.b.", "a."."""
    parts = name.split(".")
    for length in range(min(len(parts) - 1, 4), 0, -1):
        yield ".".join(parts[:length]) + "."


def _places(config: unet.Config) -> Iterator[tuple[str, str]]:
    """Where the parts of a guided-diffusion network are in ours, by the beginning of their names."""
    levels, per_level = len(config.multipliers), config.blocks + 1
    residual = config.resample == "residual"
    yield from (("time_embed.", "time."), ("input_blocks.0.0.", "conv_in."), ("out.0.", "norm_out."))
    yield from (
        ("out.2.", "conv_out."),
        ("middle_block.0.", "middle.blocks.0."),
        ("middle_block.2.", "middle.blocks.1."),
    )
    yield "middle_block.1.", "middle.attention."
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


def _split(value: Tensor, config: unet.Config, by_head: bool) -> dict[str, Tensor]:
    """Query, key and value of one convolution (3C,C,1) or bias (3C,)."""
    rows = value.shape[0] if value.dim() else 0
    heads = max(1, config.heads_of(rows // 3))
    if not rows or rows % (3 * heads):
        return {"query": value}  # of a shape that will be refused
    each = (rows // (3 * heads), *value.shape[1:])
    grouped = value.reshape(heads, 3, *each).transpose(0, 1) if by_head else value.reshape(3, heads, *each)
    return {name: part.flatten(0, 1) for name, part in zip(("query", "key", "value"), grouped, strict=True)}
