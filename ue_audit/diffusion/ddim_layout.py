"""The U-Net of ermongroup/ddim and of JCDP's released checkpoints: DDPM's own, whose shape its tensors show."""

from ue_audit.diffusion import unet
from ue_audit.diffusion.shapes import State, check_pixels, multipliers, shape, shaped, while_there


def configuration(state: State, where: str) -> unet.Config:
    """The configuration that the tensors of ermongroup/ddim show. Raises IntegrityError."""
    check_pixels(state, "conv_in.weight", where)
    channels = shape(state, "conv_in.weight", 4, where)[0]
    levels = list(while_there(state, "down.{}.block.0.conv1.weight"))
    widths = [shape(state, f"down.{level}.block.0.conv1.weight", 4, where)[0] for level in levels]
    return shaped(
        where,
        channels=channels,
        multipliers=multipliers(widths, channels, where),
        blocks=len(list(while_there(state, "down.0.block.{}.conv1.weight"))),
        attention=tuple(level for level in levels if f"down.{level}.attn.0.q.weight" in state),
        middle_attention="mid.attn_1.q.weight" in state,
    )


def names(config: unet.Config) -> tuple[tuple[str, str], ...]:
    """Their names in ours, as substitutions in order."""
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
