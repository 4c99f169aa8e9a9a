"""LSP: norms, layout and separability, all without a network."""

import pytest
import torch
from toy import Toy, levels

from ue_audit.errors import UsageError
from ue_audit.protections import lsp
from ue_audit.tools import Tools

QUICK: dict[str, object] = {}


def grey(**kind):
    data = Toy(**kind)
    data.x = torch.full_like(data.x, 128 / 255)
    return data


def craft(data, seed=0, **fields):
    return lsp.generate(data, lsp.Config(**fields), Tools(seed=seed))


@pytest.mark.parametrize("size", [16, 32, 50, 64])
def test_the_norm_grows_with_the_side(size):
    data = grey(size=size, each=4)
    norms = craft(data)(torch.arange(12)).flatten(1).norm(dim=1)
    assert torch.allclose(norms, torch.full((12,), size / 32), atol=1e-4)


def test_every_patch_is_constant_after_rounding():
    # 128 + a constant, rounded, is one level for the whole 8x8 block
    change = levels(grey(size=32, each=4), craft(grey(size=32, each=4)))
    blocks = change.unfold(2, 8, 8).unfold(3, 8, 8).flatten(4)  # (N,3,4,4,64)
    assert (blocks == blocks[..., :1]).all()
    assert len({tuple(b) for b in blocks[..., 0].flatten(1).tolist()}) == 12  # every image has its own


def test_a_nearest_centre_rule_names_the_class_of_every_held_out_change():
    data = grey(size=32, each=60, classes=5)
    change, half = craft(data)(torch.arange(300)).flatten(1), 150
    centres = torch.stack([change[:half][data.labels[:half] == k].mean(0) for k in range(5)])
    assert (torch.cdist(change[half:], centres).argmin(1) == data.labels[half:]).float().mean() > 0.99


def test_adding_and_reordering_files_changes_no_other_image():
    few, many = grey(each=4), grey(each=8)
    assert torch.equal(craft(few)(torch.arange(12)), craft(many)(torch.arange(12)))
    shuffled = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    again = Toy(each=4, order=shuffled)
    again.x[:] = 128 / 255
    assert torch.equal(craft(again)(torch.arange(12)), craft(few)(shuffled))
    assert not torch.equal(craft(few, seed=1)(torch.arange(12)), craft(few)(torch.arange(12)))


def test_an_image_gets_the_same_change_alone_and_in_a_batch():
    delta = craft(grey(each=8))
    assert torch.equal(delta(torch.tensor([7])), delta(torch.arange(24))[7:8])


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 32), (50, 70), (16, 224)])
def test_an_image_of_its_own_size_gets_the_patches_stretched(height, width):
    delta = craft(grey(size=32, each=2))
    change = delta.native(3, torch.zeros(3, height, width))
    assert float(change.norm()) == pytest.approx((height * width) ** 0.5 / 32, abs=1e-5)
    down, across = ((torch.arange(side) + 0.5) * 32 / side for side in (height, width))
    nearest = delta(torch.tensor([3]))[0][:, down.long()][:, :, across.long()]  # up to the norm
    assert torch.allclose(change / change.norm(), nearest / nearest.norm(), atol=1e-6)


def test_no_norm_means_no_change_and_what_leaves_the_pixel_range_is_cut():
    data = Toy()
    data.x[:4], data.x[4:8] = 0.0, 1.0
    assert not craft(data, l2=0.0)(torch.arange(48)).any()
    change = levels(data, craft(data, l2=4.0))
    assert (change[:4] >= 0).all() and (change[4:8] <= 0).all() and change.flatten(1).any(1).all()


def test_centres_are_distinct_even_where_vertices_are_few():
    # one patch: F = 3, a cube of 8 vertices for 8 classes
    tools = Tools(seed=0)
    centres = {tuple(c.tolist()) for c in lsp._clusters([f"c{k}" for k in range(8)], 3, 10.0, tools)[0]}
    assert centres == {(a, b, c) for a in (-10.0, 10.0) for b in (-10.0, 10.0) for c in (-10.0, 10.0)}
    with pytest.raises(UsageError, match="too few for 9 classes"):
        craft(Toy(classes=9, each=2), patch=64)


def test_labels_are_needed():
    with pytest.raises(UsageError, match="two class folders"):
        lsp.generate(Toy().without_labels(), lsp.Config(), Tools())


def test_a_set_too_small_to_be_protected_is_said_to_be():
    tools = Tools(seed=0)
    lsp.generate(Toy(), lsp.Config(), tools)
    assert "may hardly protect 48 images" in tools.notes["warnings"][0]
