"""CUDA: the blur of every class, against the definition."""

import pytest
import torch
from toy import Toy, levels

from ue_audit.errors import UsageError
from ue_audit.protections import cuda
from ue_audit.tools import Tools

QUICK: dict[str, object] = {}


def craft(data, seed=0, **fields):
    return cuda.generate(data, cuda.Config(**fields), Tools(seed=seed))


def test_an_image_is_convolved_with_zeros_around_and_divided_by_its_maximum():
    data = Toy(each=2, size=7)
    delta = craft(data)
    x, k = data.x[4], delta.kernels[data.labels[4]]
    y = torch.zeros(3, 7, 7)
    for i in range(7):
        for j in range(7):
            for a in range(3):
                for b in range(3):
                    if 0 <= i + a - 1 < 7 and 0 <= j + b - 1 < 7:
                        y[:, i, j] += k[a, b] * x[:, i + a - 1, j + b - 1]
    assert torch.allclose(x + delta(torch.tensor([4]))[0], y / y.max(), atol=1e-6)
    assert torch.equal(delta.native(4, x), delta(torch.tensor([4]))[0])


def test_kernels_have_one_peak_and_differ_between_classes():
    kernels = craft(Toy(classes=20, each=1)).kernels.flatten(1)
    assert (kernels.amax(1) == 1).all() and ((kernels < 0.3).sum(1) == 8).all() and (kernels >= 0).all()
    assert len({tuple(k.tolist()) for k in kernels}) == 20
    assert len(set(kernels.argmax(1).tolist())) > 4


def test_the_kernel_can_be_read_off_the_images():
    # least squares on (neighbourhood, x_ue) of an image of 8 bits gives k / max(k * x)
    data = Toy(each=2, size=24)
    delta = craft(data)
    x_ue = data.x[0] + levels(data, delta)[0] / 255
    around = torch.nn.functional.unfold(data.x[:1].transpose(0, 1), 3, padding=1)  # (3,9,S*S)
    found = torch.linalg.lstsq(around.transpose(1, 2).reshape(-1, 9), x_ue.reshape(-1, 1)).solution.view(3, 3)
    assert torch.allclose(found / found.max(), delta.kernels[data.labels[0]], atol=1e-2)


def test_black_images_stay_black_and_all_stay_in_the_pixel_range():
    data = Toy()
    data.x[0], data.x[1] = 0.0, 1.0
    x_ue = data.x + craft(data)(torch.arange(48))
    assert not x_ue[0].any()
    assert float(x_ue.min()) >= 0 and float(x_ue[1:].amax((1, 2, 3)).min()) == pytest.approx(1)


@pytest.mark.parametrize(("height", "width"), [(16, 16), (31, 64), (224, 224)])
def test_images_are_blurred_at_their_own_size(height, width):
    data = Toy(each=1)
    x = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    x_ue = x + craft(data).native(1, x)
    assert x_ue.shape == x.shape and float(x_ue.max()) == pytest.approx(1)


def test_a_change_depends_on_seed_class_and_image_only():
    data = Toy(each=4)
    delta, expected = craft(data), craft(data)(torch.arange(12))
    assert torch.equal(delta(torch.tensor([7])), expected[7:8])
    shuffled = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    assert torch.equal(craft(Toy(each=4, order=shuffled))(torch.arange(12)), expected[shuffled])
    assert not torch.equal(craft(data, seed=1)(torch.arange(12)), expected)
    more = Toy(classes=4, each=4)
    more.classes = ("a class with spaces", *data.classes)
    assert torch.equal(craft(more).kernels[1:], delta.kernels)


def test_labels_are_needed():
    with pytest.raises(UsageError, match="two class folders"):
        craft(Toy().without_labels())
