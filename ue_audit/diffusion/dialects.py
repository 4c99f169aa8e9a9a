"""Noise predictors of other code, told apart by the names of their tensors and brought into our `unet.UNet`.

    diffusers         `UNet2DModel`; its shape is in a config.json
    ddim              ermongroup/ddim, the code of JCDP's released checkpoints; its shape follows from the tensors
    guided-diffusion  and improved-diffusion, its elder: scale-shift conditioning, heads, learned variance

What a learned variance adds to the output is dropped: a purifier takes the predicted noise only.
"""

import re
from typing import Literal, cast

import torch
from torch import Tensor

from ue_audit.diffusion import ddim_layout, diffusers_layout, guided_layout, unet
from ue_audit.diffusion.shapes import State
from ue_audit.errors import IntegrityError

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


def build(layout: Layout, state: State, config: unet.Config, where: str, by_head: bool = True) -> unet.UNet:
    """The network with these weights, float32. Raises IntegrityError naming what does not fit.

    `by_head`: guided-diffusion's heads each hold their own query, key and value; else all queries come first.
    """
    if layout == "guided-diffusion":
        renamed = guided_layout.renamed(state, config, by_head)
    else:
        rules = diffusers_layout.NAMES if layout == "diffusers" else ddim_layout.names(config)
        renamed = {_rename(name, rules): value for name, value in state.items()}
    ours = {name: _flat(name, value) for name, value in renamed.items()}
    if learns_variance(state):
        ours |= {name: ours[name][:3] for name in ("conv_out.weight", "conv_out.bias") if name in ours}
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


def learns_variance(state: State) -> bool:
    """Whether the network says a variance for each channel, too."""
    return any(tuple(state[name].shape) == (6,) for name in ("conv_out.bias", "out.2.bias") if name in state)
