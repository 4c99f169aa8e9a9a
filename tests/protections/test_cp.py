"""CP-S on a toy set: what must hold whatever network and noise come out."""

import pytest
import torch
from toy import Toy, levels

from ue_audit.protections import cp, cp_class
from ue_audit.tools import Tools, substream
from ue_audit.training import alignment, contrastive
from ue_audit.training.noise import Noise
from ue_audit.training.views import Views

QUICK = {
    "rounds": 2, "model_steps": 2, "steps": 2, "alpha": "2/255", "batch": 16,
    "warm_rounds": 1, "warm_model_steps": 1, "warm_noise_steps": 2,
}
STILL = Views(area=0.6, p_jitter=0.2, p_gray=0.0)


def craft(data, tools=None, **more):
    return cp.generate(data, cp.Config(**QUICK | more), tools or Tools(seed=5))


@pytest.fixture(scope="module")
def protected():
    data, tools = Toy(), Tools(seed=5)
    return data, levels(data, craft(data, tools)), tools.notes


def test_the_bound_is_exact_in_whole_levels_and_reached_with_both_signs(protected):
    change = protected[1]
    assert int(change.abs().max()) == 8
    assert 0.3 < float((change[change != 0] < 0).float().mean()) < 0.7


def test_every_image_has_its_own_noise_and_starts_from_its_class(protected):
    data, change, notes = protected
    assert len({tuple(own.flatten().tolist()) for own in change}) == len(data)
    assert notes["noise_started_from"] == "class maps"
    # Two rounds of at most two steps of 2 levels: within 8 levels of the class's map.
    config, tools = cp.Config(**QUICK), Tools(seed=5)
    maps = cp_class.maps(data, data.labels, cp.warm(config), config, tools)
    assert int((change - (255 * maps[data.labels]).round()).abs().max()) <= 8
    same = [(change[data.labels == k].float() - change[data.labels == k].float().mean(0)).std() for k in range(3)]
    assert max(same) < change.float().std()


def test_delta_stays_in_the_ball_and_in_the_pixel_range():
    data = Toy()
    data.x[:8, :, :6] = 0.0
    data.x[:8, :, 6:] = 1.0
    rows = torch.arange(len(data))
    delta = craft(data, rounds=1)
    d = delta(rows)
    assert d.dtype == torch.float32 and d.shape == data.x.shape
    assert float(d.abs().max()) <= float(torch.tensor(8 / 255))
    assert float((data.x + d).min()) >= 0 and float((data.x + d).max()) <= 1
    assert torch.equal(delta(rows[3:5]), d[3:5])


def test_unlabelled_images_start_from_uniform_noise():
    flat, tools = Flat(Toy()), Tools(seed=5)
    change = levels(flat, craft(flat, tools, rounds=1))
    assert tools.notes["noise_started_from"] == "uniform noise"
    assert int(change.abs().max()) == 8
    single = Toy(classes=1, each=20)
    assert int(levels(single, craft(single, rounds=1)).abs().max()) == 8


class Flat:
    """The toy's images without class folders."""

    labels, classes = None, ()

    def __init__(self, data):
        self.data, self.keys, self.size, self.batch = data, data.keys, data.size, data.batch

    def __len__(self):
        return len(self.data)


def test_equal_seeds_give_equal_bytes_and_the_order_of_files_changes_nothing(protected):
    data, expected, _ = protected
    shuffled = torch.randperm(len(data), generator=torch.Generator().manual_seed(1))
    again = Toy(order=shuffled)
    assert torch.equal(levels(again, craft(again)), expected[shuffled])


@pytest.mark.parametrize("killed_at", [1, 4, 9, 14])
def test_a_killed_search_goes_on_to_the_same_bytes(tmp_path, monkeypatch, protected, killed_at):
    data, expected, _ = protected
    original, calls = contrastive.SimCLR.compute, iter(range(10**6))

    def dies(*arguments, **more):
        # calls: 1 + 2 for the class maps, then 2 + 3 x 2 a round: noise of the maps, training, noise, second round
        if next(calls) == killed_at:
            raise KeyboardInterrupt
        return original(*arguments, **more)

    monkeypatch.setattr(contrastive.SimCLR, "compute", dies)
    with pytest.raises(KeyboardInterrupt):
        craft(data, Tools(seed=5, work=tmp_path))
    monkeypatch.setattr(contrastive.SimCLR, "compute", original)
    tools = Tools(seed=5, work=tmp_path)
    assert torch.equal(levels(data, craft(data, tools)), expected)
    assert tools.notes == protected[2]


# -- the noise's phase, on a network that has learnt a little ----------------------------------------------------


def trained(algorithm, data, config, steps=12):
    """A network after a few steps on clean images, frozen as the noise's phase finds it."""
    model = contrastive.build(algorithm, "small", substream(5, "test"), config, len(data))
    optimiser = contrastive.sgd(model, config)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.05
        views = contrastive.pair(data.x, config.views, torch.Generator().manual_seed(step))
        contrastive.train_step(model, optimiser, *views)
    return model.freeze(True)


def posed(algorithm, **more):
    data = Toy()
    config = cp.Config(**QUICK | {"algorithm": algorithm, "views": STILL} | more)
    return data, config, alignment.pose(data, torch.arange(len(data)), config, Tools(seed=5))


def tables(n):
    return (Noise(torch.zeros(n, 3, 12, 12).half().numpy()) for _ in range(2))


@pytest.mark.parametrize("algorithm", ["simclr", "moco", "byol"])
def test_the_noise_makes_views_match_and_its_negative_does_not(algorithm):
    # Over 8 pairs of views, the same for x, x + d and x - d: the loss, and by how much the cosine of an image's own
    # two views lies above the mean cosine with views of other images (which SimCLR and MoCo push apart).
    data, config, problem = posed(algorithm)
    model, rows = trained(algorithm, data, config), torch.arange(len(data))
    before, after = tables(len(data))
    alignment.improve(problem, cp.main(config)._replace(steps=10), model, before, after, 1)

    def judged(sign):
        loss = margin = 0.0
        for draw in range(8):
            x = data.x + sign * after[rows]
            a, b = contrastive.pair(x, config.views, torch.Generator().manual_seed(100 + draw))
            with torch.no_grad():
                loss += float(model.loss(a, b)) / 8
                cosines = torch.cosine_similarity(model.online(a)[:, None], model.online(b)[None], dim=2)  # (B, B)
            margin += float(cosines.diag().mean() - cosines.mean()) / 8
        return loss, margin

    (with_loss, with_margin), (clean_loss, clean_margin), (against, _) = judged(1), judged(0), judged(-1)
    assert with_loss < clean_loss < against
    if algorithm != "byol":  # whose loss is the cosine itself
        assert with_margin > clean_margin


@pytest.mark.parametrize("algorithm", ["simclr", "moco", "byol"])
def test_weights_statistics_average_and_queue_stand_still_while_noise_moves(algorithm):
    data, config, problem = posed(algorithm)
    model = trained(algorithm, data, config, steps=1)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    alignment.improve(problem, cp.main(config), model, *tables(len(data)), 1)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("algorithm", ["moco", "byol"])
def test_the_second_branch_has_a_say_in_the_noise(algorithm):
    data, config, problem = posed(algorithm)
    model, rows = trained(algorithm, data, config, steps=1), torch.arange(len(data))
    noise = {}
    for dual in (False, True):
        before, after = tables(len(data))
        told = problem._replace(config=config.model_copy(update={"dual": dual}))
        alignment.improve(told, cp.main(config), model, before, after, 1)
        noise[dual] = after[rows]
    assert not torch.equal(noise[False], noise[True])


def test_only_the_rows_of_the_batches_are_written():
    data, config, problem = posed("simclr", noise_steps=1, warm_rounds=0)
    before, after = tables(len(data))
    alignment.improve(problem, cp.main(config), trained("simclr", data, config, steps=1), before, after, 1)
    touched = after[torch.arange(48)].flatten(1).abs().sum(1) > 0
    batch = next(problem.batches("image-maps", "noise", first=0, count=1))
    assert touched.nonzero().flatten().tolist() == sorted(batch.tolist())


def test_the_cost_is_that_of_the_published_schedule():
    # 200 rounds x two views x (1 + 5), and the class maps' 819 before
    paper = cp.Config(rounds=200, steps=5, batch=500, warm_rounds=1000, warm_model_steps=20, warm_noise_steps=20)
    assert cp.passes(paper, 50_000) == pytest.approx(2400 + 2 * 1000 * 40 * 500 / 50_000)
    assert cp.passes(paper.model_copy(update={"warm_rounds": 0}), 50_000) == 2400


def test_a_set_too_small_to_be_protected_is_said_to_be():
    tools = Tools(seed=5)
    craft(Toy(), tools)
    (warning,) = tools.notes["warnings"]
    assert "may hardly protect 48 images" in warning
