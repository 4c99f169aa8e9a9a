"""EMN, class-wise, on a toy set."""

import pytest
import torch
from toy import Toy, levels

from ue_audit.errors import UsageError
from ue_audit.protections import emn_class
from ue_audit.tools import Tools
from ue_audit.training import fit, minmin
from ue_audit.training.noise import Noise

QUICK = {"surrogate_steps": 4, "batch": 16, "steps": 2, "min_rounds": 4, "max_rounds": 4}


def craft(data, tools=None, **more):
    return emn_class.generate(data, emn_class.Config(**QUICK | more), tools or Tools(seed=5))


@pytest.fixture(scope="module")
def protected():
    data = Toy()
    return data, levels(data, craft(data))


def test_all_images_of_a_class_wear_one_map_and_classes_differ(protected):
    data, change = protected
    maps = [change[data.labels == k] for k in range(3)]
    assert all((of_class == of_class[0]).all() for of_class in maps)  # the toy's greys are away from 0 and 255
    assert len({tuple(of_class[0].flatten().tolist()) for of_class in maps}) == 3


def test_the_bound_is_exact_and_both_signs_are_present(protected):
    changed = protected[1][protected[1] != 0]
    assert int(changed.abs().max()) == 8
    assert 0.25 < float((changed < 0).float().mean()) < 0.75


def test_a_step_follows_the_sign_of_the_summed_gradient_of_its_class(monkeypatch):
    # f(u) = <w_y, u> gives the gradient w_c for every image of class c, so D_c = -alpha sign(w_c)
    data = Toy()
    config = emn_class.Config(**QUICK | {"steps": 1}, shift=0.0)
    w = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(fit, "loss_of", lambda model, u, y: (u * w[y]).sum() / len(y))
    problem = minmin.pose(data, data.labels, data.labels, config, Tools(seed=5))
    before, after = (Noise(torch.zeros(3, 3, 12, 12).half().numpy()) for _ in range(2))
    emn_class.improve(problem, torch.nn.Identity(), before, after, 1)
    assert torch.allclose(after[torch.arange(3)], -config.alpha * w.sign(), atol=1e-5)


def test_a_class_of_one_image_takes_part():
    data = Toy(classes=2, each=8)
    data.labels = torch.tensor([0] * 15 + [1])
    change = levels(data, craft(data))
    assert change[15].any()


def test_equal_seeds_give_equal_bytes_and_the_order_of_files_changes_nothing(protected):
    data, expected = protected
    shuffled = torch.randperm(len(data), generator=torch.Generator().manual_seed(1))
    again = Toy(order=shuffled)
    assert torch.equal(levels(again, craft(again)), expected[shuffled])


def test_only_a_share_of_the_images_is_paid_for():
    # 20 rounds x (2 steps x a fifth + 10 batches of 64 of 2,000 images + a forward pass)
    assert emn_class.passes(emn_class.Config(), 2000) == pytest.approx(20 * (0.4 + 640 / 2000 + 1 / 3))


def test_labels_are_needed():
    with pytest.raises(UsageError, match="two class folders"):
        emn_class.generate(Toy().without_labels(), emn_class.Config(), Tools())
