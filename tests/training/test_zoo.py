"""The larger networks: their weights from the literature or counted by hand, their cells, positions that stretch."""

import pytest
import torch

from ue_audit.training import zoo


def weights(model):
    return sum(p.numel() for p in model.parameters())


def counted(name):
    """Weights at K = 10 by arithmetic alone: shapes without numbers."""
    with torch.device("meta"):
        return weights(getattr(zoo, name)(10))


# torchvision's totals at K = 1000, their heads and 7x7 stems taken off, ours put on
RESNET50 = 25_557_032 - 2049 * 1000 + 2049 * 10 - 3 * 64 * (49 - 9)
DENSENET = 7_978_856 - 1025 * 1000 + 1025 * 10 - 3 * 64 * (49 - 9)
MOBILE = 3_504_872 - 1281 * 1000 + 1281 * 10
# 3x3 convolutions with bias and batch norm: 9vw + w + 2w each
WIDTHS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
VGG = sum(9 * v * w + 3 * w for v, w in zip(WIDTHS, WIDTHS[1:], strict=False)) + 513 * 10
# a layer of width d: attention 4d^2 + 4d, two linear layers d x 4d 8d^2 + 5d, two norms 4d; then patches, class token,
# 64 + 1 positions, last norm, head
D = 192
VIT = 12 * (12 * D * D + 13 * D) + 3 * 16 * D + D + D + 65 * D + 2 * D + (D + 1) * 10


@pytest.mark.parametrize(
    "name, derived, published",
    [
        ("resnet50", RESNET50, 23_520_842),
        ("vgg16", VGG, 14_728_266),
        ("densenet121", DENSENET, 6_956_298 + 2 * 64),  # the CIFAR version has no batch norm in its stem
        ("mobilenet_v2", MOBILE, 2_236_682),
        ("vit", VIT, 5_362_762),
    ],
)
def test_weights(name, derived, published):
    assert derived == published == counted(name)


@pytest.mark.parametrize("name", ["resnet50", "densenet121", "mobilenet_v2"])
def test_the_last_cells_are_4x4_at_32_px(name):
    with torch.device("meta"):
        network = getattr(zoo, name)(10).eval()
        inside = network.layer4 if name == "resnet50" else network.features
        sides = []
        inside.register_forward_hook(lambda module, given, out: sides.append(tuple(out.shape[2:])))
        network(torch.rand(1, 3, 32, 32))
    assert sides == [(4, 4)]


def test_nothing_draws_from_the_global_stream_while_training():
    for name in ("vgg16", "mobilenet_v2", "vit"):
        network = getattr(zoo, name)(10).train()
        before = torch.get_rng_state()
        network(torch.full((2, 3, 16, 16), 0.5))
        assert torch.equal(torch.get_rng_state(), before), name


def test_vit_is_torchvisions_at_32_px():
    network = zoo.vit(5).eval()
    torch.nn.init.normal_(network.heads.head.weight)
    twin = super(zoo.Transformer, network)
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(x), twin.forward(x))


def test_positions_of_another_size_are_interpolated_and_the_class_tokens_is_kept():
    network = zoo.vit(2)
    ramp = torch.arange(8.0).view(1, 8, 1).expand(8, 8, 192)  # the column of a place
    with torch.no_grad():
        network.encoder.pos_embedding.copy_(torch.cat([torch.full((1, 192), 9.0), ramp.flatten(0, 1)])[None])
        found = network.positions(4, 16)[0, :, 0]
    assert len(found) == 1 + 4 * 16 and float(found[0]) == 9
    columns = found[1:].view(4, 16)
    assert torch.allclose(columns, columns[:1].expand(4, 16), atol=1e-5)  # rows do not differ
    assert torch.allclose(columns[0, 2:-2], (torch.arange(16.0)[2:-2] + 0.5) / 2 - 0.5, atol=0.1)


def test_what_is_left_over_from_whole_patches_is_padded_and_seen():
    network = zoo.vit(2).eval()
    torch.nn.init.normal_(network.heads.head.weight)
    x = torch.rand(1, 3, 33, 33)
    changed = x.clone()
    changed[..., -1, -1] += 0.5
    with torch.no_grad():
        assert not torch.allclose(network(x), network(changed))
