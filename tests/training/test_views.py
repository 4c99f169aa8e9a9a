"""SimCLR's views: every operation against torchvision's, its gradient against finite differences."""

import itertools
import math

import pytest
import torch
from torch.autograd import gradcheck
from torchvision.transforms import functional as reference
from torchvision.transforms.functional import InterpolationMode

from ue_audit.training import views
from ue_audit.training.views import Views

REFERENCES = (
    reference.adjust_brightness, reference.adjust_contrast, reference.adjust_saturation, reference.adjust_hue,
)


def drawn(n, seed=0, **settings):
    return views.draw(n, Views(**settings), torch.Generator().manual_seed(seed))


def images(n=4, side=8, dtype=torch.float64, seed=0):
    return torch.rand(n, 3, side, side, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def transcribed(x, d):
    """Image by image with torchvision's functions, in the batch's order of jitters."""
    out, side = [], x.shape[-1]
    for i, image in enumerate(x):
        height, width = (max(1, round(float(share[i]) * side)) for share in (d.height, d.width))
        top = math.floor(float(d.down[i]) * (side - height + 1))
        left = math.floor(float(d.along[i]) * (side - width + 1))
        image = reference.resized_crop(
            image, top, left, height, width, [side, side], InterpolationMode.BILINEAR, antialias=True
        )
        image = reference.hflip(image) if d.mirror[i] else image
        for number in d.order:
            image = REFERENCES[number](image, float(d[5 + number][i]))
        out.append(reference.rgb_to_grayscale(image, 3) if d.gray[i] else image)
    return torch.stack(out)


@pytest.mark.parametrize(("seed", "side"), [(0, 32), (1, 16), (2, 13)])
def test_a_view_is_what_torchvision_makes_of_every_image_on_its_own(seed, side):
    x, d = images(24, side, torch.float32), drawn(24, seed)
    assert 0 < int(d.mirror.sum()) < 24 and 0 < int(d.gray.sum()) < 24 and 0 < int((d.hue == 0).sum()) < 24
    assert torch.allclose(views.apply(x, d), transcribed(x, d), atol=2e-5)


@pytest.mark.parametrize(
    ("number", "amount"), [(0, 0.6), (0, 1.4), (1, 0.5), (1, 1.9), (2, 0.0), (2, 1.4), (3, 0.1), (3, -0.07), (3, 0.5)]
)
def test_every_jitter_is_torchvisions(number, amount):
    x = images(6, 16, torch.float32)
    x[0] = x[0, :1]  # gray
    x[1] = (4 * x[1]).round() / 4  # with ties of two and three channels
    mine = views.JITTERS[number](x, torch.full((6, 1, 1, 1), amount))
    assert torch.allclose(mine, REFERENCES[number](x, amount), atol=2e-6)


@pytest.mark.parametrize("number", range(4))
def test_the_gradient_of_every_jitter_is_its_finite_difference(number):
    x = images(3, 4).requires_grad_(True)
    amounts = torch.tensor([[0.8, 1.1, 1.3]] * 3 + [[0.08, -0.06, 0.0]], dtype=torch.float64)[number].view(-1, 1, 1, 1)
    assert gradcheck(lambda u: views.JITTERS[number](0.25 + 0.5 * u, amounts), x)


def test_the_gradient_through_crop_flip_gray_and_whole_views_is_the_finite_difference():
    d = drawn(4, seed=3)
    x = images(4, 5).requires_grad_(True)
    assert gradcheck(lambda u: views.crop(u, d), x)
    assert gradcheck(views.luma, x)
    assert gradcheck(lambda u: views.apply(0.3 + 0.3 * u, d), x)


def test_gradients_are_finite_where_hue_has_none():
    # Black, white, gray and tied pixels, where the hue of a pixel jumps.
    x = torch.tensor([0.0, 0.5, 1.0])[torch.cartesian_prod(*[torch.arange(3)] * 3)].T.reshape(1, 3, 3, 9)
    x = x.clone().requires_grad_(True)
    views.turn_hue(x, torch.full((1, 1, 1, 1), 0.05)).sum().backward()
    assert x.grad.isfinite().all() and float(x.grad.abs().max()) <= 3


def test_neutral_numbers_leave_an_image_alone_bit_by_bit():
    x = images(5, 12, torch.float32)
    whole = drawn(5, area=1.0, flip=0.0, p_jitter=0.0, p_gray=0.0)
    whole = whole._replace(height=torch.ones(5), width=torch.ones(5))
    assert torch.equal(views.apply(x, whole), x)


def test_views_stay_in_range_and_keep_type_and_shape():
    x = images(64, 16, torch.float32).round()
    seen = views.view(x, Views(), torch.Generator().manual_seed(0))
    assert seen.shape == x.shape and seen.dtype == x.dtype
    assert float(seen.min()) >= -1e-6 and float(seen.max()) <= 1 + 1e-6


def test_equal_generators_draw_equal_numbers_and_others_do_not():
    first, again, other = drawn(8, 1), drawn(8, 1), drawn(8, 2)
    assert first.order == again.order and all(map(torch.equal, first[:-1], again[:-1]))
    assert not torch.equal(first.height, other.height)


def test_boxes_have_the_area_and_aspect_asked_for():
    d = drawn(4000, area=0.2)
    area, aspect = d.height * d.width, d.width / d.height
    assert 0.2 - 1e-6 <= float(area.min()) < 0.22 and 0.98 < float(area.max()) <= 1
    assert float(aspect.min()) >= 0.75 - 1e-5 and float(aspect.max()) <= 4 / 3 + 1e-5
    # Tall and wide ones are equally likely: the logarithm of the aspect is symmetric around 0.
    assert abs(float(aspect.log().mean())) < 0.02
    assert {drawn(1, seed).order for seed in range(200)} == set(itertools.permutations(range(4)))


def test_a_whole_image_is_taken_where_no_box_fits():
    # Of area 1 only the square box of the image's own size fits, and the log-uniform aspect never is exactly 1.
    d = drawn(50, area=1.0)
    assert torch.equal(d.height, torch.ones(50)) and torch.equal(d.width, torch.ones(50))


def test_one_strength_scales_them_all():
    assert Views.of_strength(1.0).model_dump() == pytest.approx(Views(area=0.1).model_dump())
    weak = Views.of_strength(0.6)
    assert [round(v, 6) for v in (weak.area, weak.brightness, weak.hue, weak.p_jitter, weak.p_gray)] == [
        0.46, 0.24, 0.06, 0.48, 0.12,
    ]
    assert Views.of_strength(2.0).p_jitter == 0.99 and Views.of_strength(2.0).area == 0.05
    still = Views.of_strength(0.0)
    assert still.area == 1 and still.p_jitter == still.p_gray == still.hue == 0


# -- what some learners do to a view besides ---------------------------------------------------------------------


def test_noise_has_its_deviation_and_stays_in_range():
    x = torch.full((8, 3, 32, 32), 0.5)
    change = views.noisy(x, 0.05, torch.Generator().manual_seed(0)) - x
    # 24,576 draws: the deviation of their deviation is 0.05 / sqrt(2 n) = 0.0002
    assert float(change.std()) == pytest.approx(0.05, abs=0.001) and abs(float(change.mean())) < 0.002
    assert not torch.equal(change[0], change[1])
    edge = views.noisy(x.round(), 0.5, torch.Generator().manual_seed(0))
    assert float(edge.min()) >= 0 and float(edge.max()) <= 1


def test_a_hole_is_the_square_around_its_centre_that_lies_in_the_image():
    x, share = images(200, 8, torch.float32).clamp(max=0.4), 0.5
    cut = views.cut_out(x, share, torch.Generator().manual_seed(0))
    centres = (torch.rand(2, 200, generator=torch.Generator().manual_seed(0)) * 8).floor().int()
    for i, (row, column) in enumerate(centres.T.tolist()):
        expected = x[i].clone()
        expected[:, max(0, row - 2) : row + 2, max(0, column - 2) : column + 2] = 0.5
        assert torch.equal(cut[i], expected)
    assert {tuple(pair) for pair in centres.T.tolist()} >= {(0, 7), (4, 4)}, "corners, too"


def test_no_hole_and_a_hole_as_large_as_two_images():
    x = images(5, 8, torch.float32)
    generator = torch.Generator().manual_seed(0)
    assert torch.equal(views.cut_out(x, 0.0, generator), x)
    assert torch.equal(views.cut_out(x, 2.0, generator), torch.full_like(x, 0.5))
