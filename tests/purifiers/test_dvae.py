"""D-VAE: its objective by hand, its two stages, resume, order and company, with either network."""

import pytest
import torch
from toy import Toy

from ue_audit.config import load_preset
from ue_audit.errors import UsageError
from ue_audit.progress import Progress
from ue_audit.purifiers import dvae
from ue_audit.tools import Batch, Tools
from ue_audit.training import vae

SMALL = {"network": "resnet", "width": 4, "latent": 4, "epochs": 1, "min_steps": 6, "batch": 8}
QUICK = SMALL
EITHER = pytest.mark.parametrize("settings", [SMALL, {"network": "linear"}], ids=["resnet", "linear"])


class Worn(Toy):
    """Noise images whose class is nothing but a pattern of 8 levels, a fixed one of single pixels."""

    def __init__(self, each=60, size=12, order=None):
        super().__init__(classes=2, each=each, size=size, order=order)
        noise = torch.rand(len(self), 3, size // 4, size // 4, generator=torch.Generator().manual_seed(1))
        noise = noise.repeat_interleave(4, 2).repeat_interleave(4, 3)
        self.clean = 0.25 + 0.5 * (noise if order is None else noise[order])
        signs = torch.randint(0, 2, (2, 3, size, size), generator=torch.Generator().manual_seed(2))
        self.delta = (16 * signs[self.labels] - 8) / 255
        self.x = ((self.clean + self.delta) * 255).round() / 255


def everything(data):
    return Batch(data.x, data.labels, torch.arange(len(data)), data.keys)


def part(whole, rows):
    return Batch(whole.x[rows], whole.labels[rows], whole.rows[rows], [whole.keys[row] for row in rows])


def build(data, settings, seed=0, work=None):
    return dvae.build(data, dvae.Config(**settings), Tools(seed=seed, work=work))


# -- the objective -----------------------------------------------------------------------------------------


def test_the_objective_by_hand():
    """x = 0.5, x^ = 0.6, p = -0.2, KL = 2: 0.01 + 0.01, w times KL or kd, and p^2 = 0.04 or p_limit."""
    x = torch.full((1, 3, 2, 2), 0.5)
    coded = vae.Coded(torch.full_like(x, 0.6), torch.full_like(x, -0.2), torch.tensor([2.0]))
    config = dvae.Config(rates=(1.0, 3.0), rate_weights=(0.01, 0.5), p_limit=0.002)
    assert float(dvae.objective(coded, x, 0, False, config)) == pytest.approx(0.02 + 0.01 * 2)
    assert float(dvae.objective(coded, x, 1, False, config)) == pytest.approx(0.02 + 0.5 * 3)
    assert float(dvae.objective(coded, x, 0, True, config)) == pytest.approx(0.02 + 0.01 * 2 + 0.04)
    small = coded._replace(perturbation=torch.full_like(x, -0.01))
    assert float(dvae.objective(small, x, 0, True, config)) == pytest.approx(0.01 + 0.09**2 + 0.01 * 2 + 0.002)


# -- what it does ------------------------------------------------------------------------------------------


def test_a_pattern_of_each_class_goes():
    """It is costly to code and the same in every image of a class: p takes it."""
    data = Worn()
    x_le = build(data, {"network": "linear"})(everything(data))
    kept = ((x_le - data.clean) * data.delta).sum((1, 2, 3)) / data.delta.square().sum((1, 2, 3))
    assert kept.abs().mean() < 0.2
    assert (x_le - data.clean).square().mean() < data.delta.square().mean() / 2


class Losses(Progress):
    def __init__(self):
        self.seen = []

    def advance(self, n=1, **figures):
        self.seen += figures.values()


def test_training_brings_the_objective_down():
    losses, data = Losses(), Worn(each=8)
    config = dvae.Config(**SMALL | {"min_steps": 40, "lr": 0.02})
    dvae._trained(0, data, data.batch, config, Tools(progress=losses))
    assert len(losses.seen) == 40 and sum(losses.seen[-5:]) < 0.9 * sum(losses.seen[:5])


@EITHER
def test_the_stages_follow_one_another(settings):
    """x_le is the second coder's image of x_1 without p_2, x_1 the whole levels of x_ue without p_1."""
    data, config, tools = Worn(each=9), dvae.Config(**settings), Tools(seed=0)
    fitted = dvae._linear if config.network == "linear" else dvae._trained
    whole, images = everything(data), data.batch
    first = fitted(0, data, images, config, tools)
    x_1 = ((data.x - first(data.x, whole, 0)[1]).clamp(0, 1) * 255).round() / 255
    second = fitted(1, data, lambda rows: x_1[rows], config, tools)
    x_2 = (x_1 - second(x_1, whole, 1)[1]).clamp(0, 1)
    expected = second(x_2, whole, 2)[0].clamp(0, 1)
    torch.testing.assert_close(build(data, settings)(whole), expected, rtol=0, atol=1e-5)


# -- invariances -------------------------------------------------------------------------------------------


@EITHER
def test_the_order_of_files_and_repetition_do_not_matter(settings):
    turned = torch.randperm(18, generator=torch.Generator().manual_seed(4))
    data, other = Worn(each=9), Worn(each=9, order=turned)
    first = build(data, settings)(everything(data))
    assert first.dtype == torch.float32 and first.min() >= 0 and first.max() <= 1
    assert torch.equal(build(data, settings)(everything(data)), first)
    torch.testing.assert_close(build(other, settings)(everything(other))[turned.argsort()], first, rtol=0, atol=1e-5)
    differs = not torch.equal(build(data, settings, seed=1)(everything(data)), first)
    assert differs == (settings["network"] == "resnet")  # nothing is drawn in the linear one


@pytest.mark.parametrize("settings", [SMALL, SMALL | {"norm": "instance", "code": "sample"}, {"network": "linear"}])
def test_company_does_not_matter(settings):
    data = Worn(each=9)
    purify, whole = build(data, settings), everything(data)
    together = purify(whole)
    parts = torch.cat([purify(part(whole, rows)) for rows in ([0], [1, 2], list(range(3, 18)))])
    torch.testing.assert_close(parts, together, rtol=0, atol=1e-4)


def test_a_killed_fit_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    """Stopped within either stage, right behind a save."""
    monkeypatch.setattr(dvae, "SAVE_SECONDS", 0.0)
    data, save = Worn(each=9), Tools.save
    unbroken = build(data, SMALL)(everything(data))
    for last in (2, 9):
        count = 0

        def counted(self, name, state, every=0.0, last=last):
            nonlocal count
            save(self, name, state, every)
            count += 1
            if count == last:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Tools, "save", counted)
            with pytest.raises(KeyboardInterrupt):
                build(data, SMALL, work=tmp_path / str(last))
        assert torch.equal(build(data, SMALL, work=tmp_path / str(last))(everything(data)), unbroken)


def test_a_finished_fit_is_not_repeated(tmp_path, monkeypatch):
    data = Worn(each=9)
    first = build(data, SMALL, work=tmp_path)(everything(data))
    monkeypatch.setattr(dvae, "objective", None)
    assert torch.equal(build(data, SMALL, work=tmp_path)(everything(data)), first)


@EITHER
def test_sides_that_are_no_multiple_of_anything(settings):
    data = Toy(classes=2, each=6, size=11)
    assert build(data, settings)(everything(data)).shape == (12, 3, 11, 11)


# -- contract ----------------------------------------------------------------------------------------------


def test_passes():
    """64 images in batches of 8: 2 x 6 steps show each image 1.5 times; 4 codings count a third each."""
    config = dvae.Config(**SMALL | {"epochs": 1, "min_steps": 12})
    assert dvae.passes(config, 64) == pytest.approx(2 * 1.5 + 4 / 3)
    assert dvae.passes(dvae.Config(**SMALL | {"epochs": 3, "min_steps": 0}), 64) == pytest.approx(2 * 3 + 4 / 3)
    assert dvae.passes(dvae.Config(), 64) == 0


def test_needs_labels():
    with pytest.raises(UsageError, match="one folder per class"):
        build(Toy().without_labels(), SMALL)


def test_paper_preset():
    """60 epochs of 50,000 images at batch 128 are the published 23,400 steps a stage."""
    fields = load_preset("purify", "dvae-paper")
    assert fields.pop("method") == "dvae"
    config = dvae.Config(**fields)
    assert (config.width, config.blocks, config.latent, config.norm) == (64, 2, 256, "instance")
    assert (config.rates, config.rate_weights, config.lr, config.clip) == ((1.0, 3.0), (0.01, 0.5), 5e-3, 5.0)
    assert dvae._steps(50_000, config) == 60 * 390
    assert all(getattr(config, key) != dvae.Config.model_fields[key].default for key in fields)
