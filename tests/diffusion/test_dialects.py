"""Networks of other code, with the same weights, answer the same in ours."""

import pytest
import torch
from their_networks import Ddim, Guided, fill

from ue_audit.diffusion import ddim_layout, dialects, diffusers_layout, guided_layout
from ue_audit.diffusion.unet import DDPM_CIFAR
from ue_audit.errors import IntegrityError

SIZE = 16


def answers(ours, theirs, t=(1, 700)):
    """Largest difference of the predicted noise, in units of its standard deviation; they count t from 0."""
    x_t = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        a, b = ours.eval()(x_t, torch.tensor(t)), theirs(x_t, torch.tensor(t) - 1)
    b = (b.sample if hasattr(b, "sample") else b)[:, :3]
    assert b.std() > 0.01
    return float((a - b).abs().max() / b.std())


def diffusers_network(**fields):
    diffusers = pytest.importorskip("diffusers")
    return fill(diffusers.UNet2DModel(sample_size=SIZE, **fields))


def read_diffusers(theirs):
    state, config = theirs.state_dict(), dict(theirs.config) | {"_class_name": "UNet2DModel"}
    assert dialects.recognise(state, "it") == "diffusers"
    network, size = diffusers_layout.configuration(config, "it")
    assert size == SIZE
    return dialects.build("diffusers", state, network, "it")


CIFAR = {
    "layers_per_block": 2,
    "block_out_channels": (128, 256, 256, 256),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    "norm_eps": 1e-6,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "downsample_padding": 0,
    "attention_head_dim": None,
}
SMALL = {
    "block_out_channels": (32, 64),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
}


def test_the_cifar_network_of_diffusers_is_ours():
    theirs = diffusers_network(**CIFAR)
    ours = read_diffusers(theirs)
    assert ours.config == DDPM_CIFAR.model_copy(update={"dropout": 0.0})
    assert answers(ours, theirs) < 1e-4


@pytest.mark.parametrize(
    "fields",
    [
        {},  # the defaults of diffusers: heads of 8 channels, cosines first, padded all around
        {"attention_head_dim": 32, "norm_num_groups": 8, "norm_eps": 1e-3},
        {"out_channels": 6},
        {"add_attention": False, "freq_shift": 1, "dropout": 0.2},
        {"flip_sin_to_cos": False, "downsample_padding": 0},
    ],
)
def test_what_else_diffusers_offers(fields):
    theirs = diffusers_network(**SMALL, **fields)
    assert answers(read_diffusers(theirs), theirs) < 1e-4


def test_the_older_attention_names_of_diffusers():
    theirs = diffusers_network(**SMALL)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = {}
    for name, value in theirs.state_dict().items():
        for new, older in old.items():
            name = name.replace(f".{new}.", f".{older}.")
        state[name] = value
    config, _ = diffusers_layout.configuration(dict(theirs.config) | {"_class_name": "UNet2DModel"}, "it")
    assert answers(dialects.build("diffusers", state, config, "it"), theirs) < 1e-4


@pytest.mark.parametrize(
    "fields", [{}, {"multipliers": (1, 2), "blocks": 1, "attention": (0,)}, {"attention": (), "out": 6}]
)
def test_ddim(fields):
    theirs = fill(Ddim(**fields))
    state = theirs.state_dict()
    assert dialects.recognise(state, "it") == "ddim"
    assert answers(dialects.build("ddim", state, ddim_layout.configuration(state, "it"), "it"), theirs) < 1e-4


def test_the_published_shape_of_ddim_is_the_published_network():
    with torch.device("meta"):
        state = Ddim(128, (1, 2, 2, 2)).state_dict()
    assert ddim_layout.configuration(state, "it") == DDPM_CIFAR


GUIDED = [
    {},
    {"updown": False},
    {"updown": False, "scale_shift": False, "out": 3},
    {"multipliers": (1, 1, 2), "blocks": 1, "attention": (2,)},
    {"multipliers": (2, 4), "attention": (0, 1), "blocks": 3},
    {"multipliers": (1,), "attention": (0,), "blocks": 1},
]


@pytest.mark.parametrize("fields", GUIDED)
def test_guided_diffusion(fields):
    theirs = fill(Guided(**fields))
    state = theirs.state_dict()
    assert dialects.recognise(state, "it") == "guided-diffusion"
    config = guided_layout.configuration(state, "it", heads=4)
    assert config.attention == fields.get("attention", (1, 2))
    assert answers(dialects.build("guided-diffusion", state, config, "it"), theirs) < 1e-4


def test_heads_change_the_answer_and_may_be_given_by_their_channels():
    theirs = fill(Guided(heads=2))
    state = theirs.state_dict()
    by_channels = guided_layout.configuration(state, "it", head_channels=32)  # 64 channels at both attended levels
    assert answers(dialects.build("guided-diffusion", state, by_channels, "it"), theirs) < 1e-4
    wrong = dialects.build("guided-diffusion", state, guided_layout.configuration(state, "it", heads=4), "it")
    assert answers(wrong, theirs) > 1e-3


def test_the_two_orders_of_query_key_and_value():
    theirs = fill(Guided(by_role=True))
    state = theirs.state_dict()
    config = guided_layout.configuration(state, "it", heads=4)
    assert answers(dialects.build("guided-diffusion", state, config, "it", by_head=False), theirs) < 1e-4
    assert answers(dialects.build("guided-diffusion", state, config, "it"), theirs) > 1e-3


def test_rescaled_timesteps():
    """improved-diffusion tells its network 1000/T times the timestep."""
    theirs = fill(Guided(updown=False))
    state = theirs.state_dict()
    config = guided_layout.configuration(state, "it", heads=4, t_scale=0.25)
    ours = dialects.build("guided-diffusion", state, config, "it")
    x_t = torch.randn(1, 3, SIZE, SIZE)
    difference = ours.eval()(x_t, torch.tensor([2801])) - theirs(x_t, torch.tensor([700]))[:, :3]
    assert difference.abs().max() < 1e-3


# -- what does not fit -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["init_conv.weight"], "denoising-diffusion-pytorch"),
        (["model.map_layer0.weight"], "EDM"),
        (["model.diffusion_model.time_embed.0.weight"], "latent"),
        (["features.0.weight"], "begin with 'features.0.weight'"),
        (["time_embed.0.weight", "label_emb.weight"], "class labels"),
        (["time_embed.0.weight", "input_blocks.1.1.transformer_blocks.0.norm1.weight"], "text"),
    ],
)
def test_other_networks_are_named(names, words):
    with pytest.raises(IntegrityError, match=words):
        dialects.recognise(dict.fromkeys(names, torch.zeros(1)), "it")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"block_out_channels": [-128, 256]}, "block_out_channels.0: Input should be greater than 0"),
        ({"block_out_channels": [10**9, 10**9]}, "channels"),
        ({"block_out_channels": [32, 33]}, "multiples"),
        ({"block_out_channels": [32] * 100_000}, "as many widths"),
        ({"layers_per_block": 10**9}, "blocks"),
        ({"layers_per_block": "many"}, "layers_per_block"),
        ({"norm_num_groups": 0}, "norm_num_groups"),
        ({"norm_num_groups": 7}, "multiple"),
        ({"norm_eps": -1}, "norm_eps"),
        ({"attention_head_dim": 7}, "divide"),
        ({"in_channels": 4}, "in_channels"),
        ({"down_block_types": ["os.system", "DownBlock2D"]}, "'os.system'"),
        ({"_class_name": "UNet2DConditionModel"}, "_class_name"),
        ({"num_class_embeds": 10}, "num_class_embeds"),
        ({"act_fn": "gelu"}, "act_fn"),
        ({"resnet_time_scale_shift": "scale_shift"}, "resnet_time_scale_shift"),
        ({"time_embedding_type": "fourier"}, "time_embedding_type"),
        ({"surprise": {"a": 1}}, "surprise"),
    ],
)
def test_configurations_that_lie_or_ask_for_more(fields, words):
    with pytest.raises(IntegrityError) as caught:
        diffusers_layout.configuration(SMALL | {"_class_name": "UNet2DModel"} | fields, "config.json")
    assert words in caught.value.message and "\n" not in caught.value.message
    assert len(caught.value.message) < 500
