"""TAP on a toy set: the surrogate is made to see another class, within the budget."""

import pytest
import torch
from faint import Faint
from toy import Toy, levels

from ue_audit.errors import UsageError
from ue_audit.protections import lsp, tap
from ue_audit.tools import Tools
from ue_audit.training import fit, surrogate

QUICK = {"epochs": 2, "min_surrogate_steps": 16, "batch": 16, "steps": 8, "alpha": "2/255"}
# as much as a surrogate needs to name every toy image right
LEARNT = QUICK | {"surrogate": "small", "min_surrogate_steps": 48, "crop": 0.0, "flip": False}


def craft(data, tools=None, **more):
    return tap.generate(data, tap.Config(**QUICK | more), tools or Tools(seed=5))


@pytest.fixture(scope="module")
def protected():
    data, tools = Faint(), Tools(seed=5)
    return data, levels(data, craft(data, tools)), tools.notes


def frozen(data):
    """The surrogate of `LEARNT`, training being deterministic."""
    config, tools = tap.Config(**LEARNT), Tools(seed=5)
    return surrogate.train(data, data.labels, config, tools, surrogate.cropped(config))[0]


def test_the_bound_is_exact_in_whole_levels_and_reached(protected):
    assert int(protected[1].abs().max()) == 8


def test_images_are_taken_for_the_next_class_and_were_not_before():
    data, tools = Faint(), Tools(seed=5)
    change = levels(data, craft(data, tools, **LEARNT))
    network, target = frozen(data), (data.labels + 1) % 3
    x_ue = data.x + change / 255
    named = {name: fit.logits_of(network, x).argmax(1) for name, x in (("clean", data.x), ("protected", x_ue))}
    assert (named["clean"] == target).float().mean() < 0.1
    assert (named["protected"] == target).float().mean() > 0.9
    assert tools.notes["poison_accuracy"] > 0.9
    before, after = (surrogate.cross_entropy(network, x, target).mean() for x in (data.x, x_ue))
    assert before - after > 2  # nats


def test_untargeted_noise_only_leads_away_from_the_class():
    data, tools = Faint(), Tools(seed=5)
    change = levels(data, craft(data, tools, goal="untargeted", **LEARNT))
    network = frozen(data)
    before, after = (surrogate.cross_entropy(network, x, data.labels).mean() for x in (data.x, data.x + change / 255))
    assert after - before > 2 and tools.notes["poison_accuracy"] > 0.9


def test_the_noise_is_of_higher_frequency_than_that_of_lsp(protected):
    data, change, _ = protected
    patches = levels(data, lsp.generate(data, lsp.Config(), Tools(seed=5)))

    def high(maps):
        power = torch.fft.fft2(maps.float()).abs().square().sum((0, 1))
        frequency = torch.fft.fftfreq(12).abs()
        return float(power[torch.maximum(frequency[:, None], frequency) > 0.25].sum() / power.sum())

    assert high(change) > high(patches)


def test_the_order_of_files_changes_nothing_and_the_seed_does(protected):
    data, expected, _ = protected
    shuffled = torch.randperm(len(data), generator=torch.Generator().manual_seed(1))
    again = Faint(order=shuffled)
    assert torch.equal(levels(again, craft(again)), expected[shuffled])
    assert not torch.equal(levels(data, craft(data, Tools(seed=6))), expected)


@pytest.mark.parametrize("killed_at", [7, 20, 28])
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path, monkeypatch, protected, killed_at):
    data, expected, notes = protected
    original, calls = fit.seen, iter(range(10**6))

    def dies(*given):
        if next(calls) == killed_at:  # 16 views to train by, 8 to craft by, 4 to judge by, none thereafter
            raise KeyboardInterrupt
        return original(*given)

    tools = Tools(seed=5, work=tmp_path)
    if killed_at < 28:
        monkeypatch.setattr(fit, "seen", dies)
        with pytest.raises(KeyboardInterrupt):
            craft(data, tools)
        monkeypatch.setattr(fit, "seen", original)
    for tools in (Tools(seed=5, work=tmp_path), Tools(seed=5, work=tmp_path)):
        assert torch.equal(levels(data, craft(data, tools)), expected)
        assert tools.notes == notes


def test_two_classes_of_unequal_size_one_with_a_single_image():
    data = Toy(classes=2, each=8)
    data.labels = torch.tensor([0] * 15 + [1])
    tools = Tools(seed=5)
    assert levels(data, craft(data, tools)).flatten(1).any(1).all()
    assert tools.notes["surrogate_accuracy"] is None


def test_a_weak_surrogate_is_refused():
    with pytest.raises(UsageError, match="held-out clean images"):
        craft(Toy(each=60), lr=1e-9, min_accuracy=0.9)


def test_cost_is_counted_per_image():
    # 48 images less 4 held out, batch 16: 2 steps a pass, 16 steps; 8 gradients, 4 views judged, one last pass
    passes = tap.passes(tap.Config(**QUICK), 48)
    assert passes == pytest.approx(16 * 16 / 48 + 8 + 4 / 3 + 1 / 3)
    assert tap.estimate(Toy(), tap.Config(**QUICK), Tools()) > 0


def test_labels_are_needed():
    for data in (Toy().without_labels(), Toy(classes=1)):
        with pytest.raises(UsageError, match="two class folders"):
            tap.generate(data, tap.Config(), Tools())
