"""Fast AutoAugment: the published table is whole, and what is drawn from it happens."""

import torch

from ue_audit.training import fast_autoaugment as faa
from ue_audit.training.fast_autoaugment import NAMES, Drawn


def dice(seed=0):
    return torch.Generator().manual_seed(seed)


def test_the_published_policy():
    known = faa.policy()
    assert known.operation.shape == known.probability.shape == (493, 2)
    assert known.probability.min() >= 0 and known.probability.max() <= 1
    assert [NAMES[place] for place in known.operation[0]] == ["Contrast", "TranslateX"]
    assert torch.allclose(known.probability[0], torch.tensor([0.8321, 0.4185]))
    # level 0.4988 of contrast 0.1..1.9 is 0.998, a factor; 0.394 of +-0.45 is -0.0954 of the side
    assert torch.allclose(known.strength[0], torch.tensor([0.9979 - 1, -0.0954]), atol=1e-3)
    bits = known.strength[known.operation == NAMES.index("Posterize")]
    assert set(bits.tolist()) <= {4.0, 5.0, 6.0, 7.0, 8.0}


def test_half_of_a_signed_operation_goes_the_other_way():
    drawn = faa.draw(20000, dice())
    turned = drawn.strength[drawn.operation == NAMES.index("Rotate")]
    assert 0.45 < float((turned > 0).float().mean()) < 0.55
    bright = drawn.strength[drawn.operation == NAMES.index("Brightness")]
    assert bright.abs().max() <= 0.9
    happens = float((drawn.operation >= 0).float().mean())
    assert abs(happens - float(faa.policy().probability.mean())) < 0.02


def test_each_image_gets_its_own_operations():
    x = torch.rand(4, 3, 10, 10, generator=dice())
    operation = torch.tensor([[NAMES.index("Invert"), -1], [-1, -1], [NAMES.index("Cutout"), -1],
                              [NAMES.index("Invert"), NAMES.index("Invert")]])
    strength, centre = torch.full((4, 2), 0.2), torch.full((4, 2), 0.5)
    out = faa.apply(x, Drawn(operation, strength, centre, centre))
    assert torch.allclose(out[0], 1 - x[0]) and torch.equal(out[1], x[1]) and torch.allclose(out[3], x[3])
    grey = torch.tensor(faa.GREY).view(3, 1, 1)
    assert int((out[2] == grey).all(0).sum()) == 4  # 2 x 2 of 10 x 10
    assert torch.equal(out[2, :, 0], x[2, :, 0])


def test_a_batch_keeps_shape_and_range_and_repeats():
    x = torch.rand(300, 3, 12, 12, generator=dice())
    out = faa.apply(x, faa.draw(300, dice(1)))
    assert out.shape == x.shape and out.min() >= 0 and out.max() <= 1
    assert torch.equal(out, faa.apply(x, faa.draw(300, dice(1))))
    assert float((out != x).flatten(1).any(1).float().mean()) > 0.7
