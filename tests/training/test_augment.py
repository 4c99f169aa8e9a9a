"""Random crop and flip: a transcription of each image's own view, and its adjoint."""

import torch

from ue_audit.training import augment


def transcribed(x, views, pad):
    """Image by image: pad with zeros, cut at (top, left), then mirror."""
    out = []
    for image, top, left, mirror in zip(x, *views, strict=True):
        padded = torch.zeros(3, image.shape[1] + 2 * pad, image.shape[2] + 2 * pad, dtype=x.dtype)
        padded[:, pad:-pad, pad:-pad] = image
        cut = padded[:, top : top + image.shape[1], left : left + image.shape[2]]
        out.append(cut.flip(-1) if mirror else cut)
    return torch.stack(out)


def test_a_view_is_pad_cut_mirror_of_every_image_on_its_own():
    x = torch.rand(16, 3, 12, 12)
    views = augment.draw_views(16, 3, True, torch.Generator().manual_seed(0))
    assert 0 < int(views.mirror.sum()) < 16
    assert len(set(zip(views.top.tolist(), views.left.tolist(), strict=True))) > 8
    assert torch.equal(augment.view(x, views, 3), transcribed(x, views, 3))


def test_bytes_are_cut_as_floats_are():
    x = torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8)
    views = augment.draw_views(4, 2, True, torch.Generator().manual_seed(1))
    assert torch.equal(augment.view(x, views, 2).float(), augment.view(x.float(), views, 2))


def test_the_view_is_linear_and_its_gradient_is_the_adjoint():
    # <view(x), u> = <x, view*(u)>: autograd of the left side with respect to x is view*(u).
    x, u = torch.rand(4, 3, 8, 8, dtype=torch.float64), torch.rand(4, 3, 8, 8, dtype=torch.float64)
    views = augment.draw_views(4, 2, True, torch.Generator().manual_seed(2))
    x.requires_grad_(True)
    inner = (augment.view(x, views, 2) * u).sum()
    (back,) = torch.autograd.grad(inner, x)
    assert torch.allclose((x.detach() * back).sum(), inner.detach())


def test_offsets_cover_the_padding_and_no_more():
    views = augment.draw_views(2000, 2, False, torch.Generator().manual_seed(3))
    assert set(views.top.tolist()) == set(views.left.tolist()) == {0, 1, 2, 3, 4}
    assert not views.mirror.any()
