"""CP-C on a toy set: maps of classes that make the views of an image match, whatever network comes out."""

import pytest
import torch
from toy import Toy, levels

from ue_audit import methods
from ue_audit.errors import NonFiniteError, UsageError
from ue_audit.protections import cp_class
from ue_audit.tools import Tools
from ue_audit.training import alignment, contrastive
from ue_audit.training.noise import Noise

QUICK = {"rounds": 2, "model_steps": 2, "noise_steps": 3, "batch": 16, "alpha": "2/255"}


def craft(data, tools=None, **more):
    return cp_class.generate(data, cp_class.Config(**QUICK | more), tools or Tools(seed=5))


@pytest.fixture(scope="module")
def protected():
    data = Toy()
    return data, levels(data, craft(data))


def test_all_images_of_a_class_wear_one_map_and_classes_differ():
    data = Toy()  # its greys are away from 0 and 255
    d = craft(data)(torch.arange(len(data)))
    maps = [d[data.labels == k] for k in range(3)]
    assert all(torch.allclose(of_class, of_class[:1], atol=1e-6) for of_class in maps)
    assert len({tuple(of_class[0].flatten().tolist()) for of_class in maps}) == 3


def test_the_bound_is_exact_and_both_signs_are_present(protected):
    changed = protected[1][protected[1] != 0]
    assert int(changed.abs().max()) == 8
    assert 0.3 < float((changed < 0).float().mean()) < 0.7


def test_a_step_follows_the_sign_of_the_summed_gradient_of_the_classes_in_the_batch():
    # L = <w_c, u> summed over the images of a class has the gradient w_c for each, so D_c moves by -alpha sign(w_c);
    # the class that is not in the batch stays where it was.
    data = Toy(classes=3, each=2)
    config, tools = cp_class.Config(**QUICK | {"batch": 2}), Tools(seed=5)
    problem = alignment.pose(data, data.labels, config, tools)
    w = torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    batch = next(problem.batches("class-maps", "noise", first=0, count=1))
    names = data.labels[batch]

    class Linear:
        def loss(self, a, b, dual):
            return (a * w[names]).sum()

    class Plain(alignment.Problem):
        def views(self, x, *names):
            return x, x

    before, after = (Noise(torch.full((3, 3, 12, 12), 1.0).half().numpy()) for _ in range(2))
    phase = cp_class.phase(config)._replace(noise_steps=1)
    alignment.improve(Plain(*problem), phase, Linear(), before, after, 1)
    moved = torch.zeros(3, 1, 1, 1).index_fill_(0, names.unique(), 1.0)
    assert torch.allclose(after[torch.arange(3)], 1 / 255 - moved * config.alpha * w.sign(), atol=1e-5)
    assert (before.table == 1).all()


def test_equal_seeds_give_equal_bytes_and_the_order_of_files_changes_nothing(protected):
    data, expected = protected
    shuffled = torch.randperm(len(data), generator=torch.Generator().manual_seed(1))
    again = Toy(order=shuffled)
    assert torch.equal(levels(again, craft(again)), expected[shuffled])
    assert not torch.equal(levels(data, craft(data, Tools(seed=6))), expected)


@pytest.mark.parametrize("algorithm", ["moco", "byol"])
def test_the_other_algorithms_craft_other_noise_within_the_bound(protected, algorithm):
    data, simclr = protected
    change = levels(data, craft(data, algorithm=algorithm, rounds=1))
    assert 0 < int(change.abs().max()) <= 8 and not torch.equal(change, simclr)


def test_the_cost_is_that_of_the_published_schedule():
    # 1000 rounds x (20 + 20) mini-batches of 512 images, two views each, for 50,000 images
    paper = cp_class.Config(rounds=1000, model_steps=20, noise_steps=20, batch=512)
    assert cp_class.passes(paper, 50_000) == pytest.approx(2 * 1000 * 40 * 512 / 50_000) == pytest.approx(819.2)
    # without numbers, a pass each: 30 of 50 images in mini-batches of 10 and 25
    assert cp_class.passes(cp_class.Config(rounds=3, steps=2, batch=10), 50) == 2 * 3 * (1 + 2)


def test_an_estimate_is_a_number_of_seconds():
    assert 0 < cp_class.estimate(Toy(each=4), cp_class.Config(rounds=1), Tools()) < 60


def test_a_training_that_diverges_is_an_error_and_writes_no_noise():
    with pytest.raises(NonFiniteError, match="lower lr_scale|is nan"):
        craft(Toy(), lr_scale=1e30)


def test_labels_are_needed():
    for data in (Toy().without_labels(), Toy(classes=1)):
        with pytest.raises(UsageError, match="two class folders"):
            cp_class.generate(data, cp_class.Config(), Tools())


def test_the_paper_presets_name_every_algorithm():
    for algorithm in contrastive.PUBLISHED:
        for name, rounds in (("cp-class", 1000), ("cp", 200)):
            config = methods.configure("protection", f"{name}-{algorithm}-paper", {}).config
            assert (config.algorithm, config.rounds, config.batch) == (algorithm, rounds, 512)
            assert config.lr_scale == 1.0  # the published rate


def test_a_set_too_small_to_be_protected_is_said_to_be():
    tools = Tools(seed=5)
    craft(Toy(), tools)
    (warning,) = tools.notes["warnings"]
    assert "may hardly protect 48 images" in warning
