"""Chains of purifiers: their settings, and that they do what their links do one after the other."""

import shutil
import sys
from types import ModuleType

import numpy as np
import pytest
import torch
from stand_ins import photos

from ue_audit import audit, chain, cli, config, manifest, methods, purify
from ue_audit.config import parse_set
from ue_audit.errors import UsageError
from ue_audit.imagedata import ImageData, to_float
from ue_audit.purifiers import _chained, random_noise
from ue_audit.settings import PurifySettings
from ue_audit.tools import Batch, Tools, substream


def purifier(build, needs=(), cost=0.0, **more):
    """A module of a few lines."""

    class Config(config.Config):
        share: float = 1.0
        weights: str | None = None

    module = ModuleType("lab.one")
    vars(module).update(SOURCE="here", NEEDS=needs, Config=Config, passes=lambda c, n: cost * c.share * n, build=build)
    vars(module).update(more)
    return module


def centred(data, config, tools):
    """Fitted to the whole set: takes off what the images have in common."""
    mean = data.batch(range(len(data))).mean(0)
    tools.note("mean", float(mean.mean()))
    return lambda batch: (batch.x - config.share * (mean - 0.5)).clamp(0, 1)


def brightened(data, config, tools):
    return lambda batch: (1.2 * batch.x).clamp(0, 1)


@pytest.fixture
def lab(monkeypatch):
    monkeypatch.setitem(sys.modules, "lab.centred", purifier(centred))


def images(n=10, size=8):
    pixels = np.random.default_rng(0).integers(0, 256, (n, size, size, 3)).astype(np.uint8)
    return ImageData(pixels, [f"a/{i}.png" for i in range(n)], ("a", "b"), [i % 2 for i in range(n)])


def batch(data, rows):
    return Batch(data.batch(rows), data.labels[rows], torch.tensor(rows), [data.keys[row] for row in rows])


# -- settings ----------------------------------------------------------------------------------------------


def test_a_chain_has_the_parts_of_a_method():
    chosen = methods.configure("purifier", "median+jcdp", {})
    assert chosen.name == "median+jcdp"
    assert list(type(chosen.config).model_fields) == ["median", "jcdp"]
    assert chosen.module.NEEDS == ("prior",)
    median, jcdp = (methods.load("purifier", name) for name in ("median", "jcdp"))
    assert chosen.module.SOURCE.split(" + ") == [median.SOURCE, jcdp.SOURCE]
    assert chosen.module.Config() == chosen.module.Config(**chosen.module.Config().model_dump(mode="json"))


def test_settings_reach_into_links():
    flags = parse_set(["jcdp.t_purify=36", "median.window=5"])
    chosen = methods.configure("purifier", "median+jcdp", {"flag": flags})
    assert (chosen.config.jcdp.t_purify, chosen.config.median.window) == (36, 5)
    assert chosen.origins["jcdp.t_purify"] == "flag"
    with pytest.raises(UsageError) as caught:
        methods.configure("purifier", "median+jcdp", {"flag": parse_set(["jcdp.t_purifi=36", "t_purify=36"])})
    assert "did you mean 't_purify'" in caught.value.details[0] and "known: jcdp, median" in caught.value.details[1]


def test_a_link_may_be_a_preset():
    chosen = methods.configure("purifier", "median+jcdp-paper", {"flag": {"jcdp_paper.passes": 2}})
    preset = config.load_preset("purify", "jcdp-paper")
    assert chosen.config.jcdp_paper.steps == preset["steps"] and chosen.config.jcdp_paper.passes == 2
    assert chosen.origins["jcdp_paper.steps"] == "preset" and chosen.origins["jcdp_paper.passes"] == "flag"


def test_a_preset_may_be_a_chain(tmp_path, monkeypatch):
    shutil.copytree(config.presets_root() / "purify", tmp_path / "purify")
    (tmp_path / "purify" / "both.yaml").write_text("method: median+avatar\navatar: {steps: 5}\n")
    monkeypatch.setattr(config, "presets_root", lambda: tmp_path)
    chosen = methods.configure("purifier", "both", {})
    assert chosen.name == "median+avatar"
    assert (chosen.config.avatar.t_purify, chosen.config.avatar.steps) == (100, 5)
    nested = methods.configure("purifier", "jpeg+both", {"flag": {"both.avatar.steps": 7}})
    assert (nested.config.both.avatar.t_purify, nested.config.both.avatar.steps) == (100, 7)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("median+nothing", "'nothing'"),
        ("median+jcpd", "did you mean 'jcdp'"),
        ("median+jpeg+median", "two links called 'median'"),
        ("jcdp-paper+jcdp_paper", "two links"),
        ("median+", "both sides"),
        ("+", "both sides"),
    ],
)
def test_chains_that_cannot_be(name, part):
    for read in (methods.choose, methods.load):
        with pytest.raises(UsageError) as caught:
            read("purifier", name)
        assert part in f"{caught.value} {caught.value.hint}"


def test_only_purifiers_are_chained():
    for kind, name in (("protection", "emn+ops"), ("learner", "supervised+simclr")):
        with pytest.raises(UsageError, match="only purifiers"):
            methods.choose(kind, name)


def test_one_file_for_lpips():
    module = _chained.chain("a+b", {"a": purifier(brightened), "b": purifier(centred)})
    assert module.Config().weights is None
    assert module.Config(b={"weights": "w.pth"}).weights == "w.pth"
    with pytest.raises(UsageError, match="share one"):
        _ = module.Config(a={"weights": "v.pth"}, b={"weights": "w.pth"}).weights


def test_costs_and_needs_are_those_of_the_links():
    links = {"a": purifier(brightened, ("labels",), 2.0), "b": purifier(centred, ("prior", "labels"), 0.5)}
    module = _chained.chain("a+b", links)
    assert module.passes(module.Config(b={"share": 3.0}), 10) == 20 + 15
    assert module.NEEDS == ("labels", "prior")


def test_links_settle_what_they_leave_open():
    def settle(config, tools):
        tools.note("eps", tools.eps)
        return config.model_copy(update={"share": tools.eps})

    open_link = purifier(brightened, settle=settle, follows_eps=lambda config: config.share == 1)
    module = _chained.chain("a+b", {"a": purifier(centred), "b": open_link})
    tools = Tools(eps=0.25)
    settled = module.settle(module.Config(), tools)
    assert (settled.a.share, settled.b.share) == (1.0, 0.25)
    assert module.follows_eps(module.Config()) and not module.follows_eps(settled)
    assert tools.notes == {"b": {"eps": 0.25}}


# -- results -----------------------------------------------------------------------------------------------


def run(source, method, output, **more):
    return purify.run(PurifySettings(source=source, method=method, output=output, device="cpu", **more))


def test_a_chain_is_its_stages_one_after_the_other(tmp_path, lab):
    photos(tmp_path / "data", size=16)
    source = tmp_path / "data"
    for number, name in enumerate(("jpeg", "lab.centred", "gaussian_blur", "posterize")):
        source = run(source, name, tmp_path / f"stage{number}")
    out = run(tmp_path / "data", "jpeg+lab.centred+gaussian_blur+posterize", tmp_path / "out")
    files = {str(path.relative_to(source)): path.read_bytes() for path in source.rglob("*.png")}
    assert len(files) == 12
    assert files == {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.png")}


def test_the_manifest_of_a_chain(tmp_path, monkeypatch):
    photos(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    words = ["purify", "--method", "jpeg+posterize", "--set", "jpeg.quality=50", "--device", "cpu", "data"]
    assert cli.main(words) == 0
    made = manifest.find(tmp_path / "data.jpeg+posterize")
    assert (made.method, made.settings["method"]) == ("jpeg+posterize", "jpeg+posterize")
    assert made.config == {"jpeg": {"quality": 50, "subsampling": "4:2:0"}, "posterize": {"bits": 2}}
    assert made.notes["jpeg"]["libjpeg"]
    assert manifest.verify(tmp_path / "data.jpeg+posterize", chain=True).problems == []


def test_a_wrong_link_is_told_before_anything_runs(tmp_path, monkeypatch, capsys):
    photos(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["purify", "--method", "median+grayscal", "data"]) == 2
    assert "did you mean 'grayscale'" in capsys.readouterr().err
    assert not list(tmp_path.glob("data.*"))


def test_every_link_draws_noise_of_its_own():
    """The first what it draws alone, the second that of another seed."""
    data = images()
    given = batch(data, range(10))
    chosen = methods.configure("purifier", "random-noise-uniform+random_noise", {})
    both = chosen.module.build(data, chosen.config, Tools(seed=3))(given)
    first = random_noise.build(data, chosen.config.random_noise_uniform, Tools(seed=3))(given)
    between = given._replace(x=first.mul(255).round().div(255))
    second = random_noise.build(data, chosen.config.random_noise, Tools(seed=substream(3, "link", 1)))
    assert torch.equal(both, second(between))
    assert not torch.equal(both, random_noise.build(data, chosen.config.random_noise, Tools(seed=3))(between))


# -- links that see the whole set --------------------------------------------------------------------------


def counted(calls):
    def build(data, config, tools):
        def purify(given):
            calls.extend(given.keys)
            return brightened(data, config, tools)(given)

        return purify

    return purifier(build)


def test_what_is_made_for_a_fit_is_made_once():
    calls, data = [], images()
    module = _chained.chain("a+b", {"a": counted(calls), "b": purifier(centred)})
    whole = module.build(data, module.Config(), Tools())
    assert calls == data.keys
    bright = np.rint(np.minimum(1.2 * data.pixels.astype(float), 255)) / 255
    expected = np.clip(bright - bright.mean(0) + 0.5, 0, 1).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(whole(batch(data, [3, 0, 7])), expected[[3, 0, 7]], atol=2e-3)  # rint(.5) differs
    assert calls == data.keys, "made again for the images' turn"


def test_other_pixels_or_names_are_not_taken_from_what_was_made():
    calls, data = [], images()
    module = _chained.chain("a+b", {"a": counted(calls), "b": purifier(centred)})
    whole = module.build(data, module.Config(), Tools())
    calls.clear()
    given = batch(data, [3, 0])
    whole(given._replace(keys=["else.png", data.keys[0]]))
    whole(given._replace(x=to_float(255 - data.pixels[[3, 0]])))
    assert len(calls) == 4


def test_nothing_is_made_that_no_link_asks_for(tmp_path):
    calls, data = [], images()
    module = _chained.chain("a+b", {"a": counted(calls), "b": purifier(brightened)})
    whole = module.build(data, module.Config(), Tools(work=tmp_path / "work"))
    assert calls == [] and not (tmp_path / "work").exists()
    whole(batch(data, [1, 2]))
    assert calls == data.keys[1:3]


def test_labels_and_what_lies_beside_reach_every_link():
    seen = {}

    def build(data, config, tools):
        seen.update(labels=data.labels, own=data.own, keys=data.keys, n=len(data), size=data.size)
        return brightened(data, config, tools)

    data = images().with_beside(None, own=images(3))
    module = _chained.chain("a+b", {"a": purifier(brightened), "b": purifier(build)})
    module.build(data, module.Config(), Tools())
    assert torch.equal(seen["labels"], data.labels) and seen["own"] is data.own
    assert (seen["keys"], seen["n"], seen["size"]) == (data.keys, 10, 8)


def test_a_fit_that_was_killed_goes_on_where_it_was(tmp_path, monkeypatch):
    """Three images at a time, every batch saved: killed in the third, the first two are not made again."""
    monkeypatch.setattr(_chained, "PIXELS", 3 * 64)
    monkeypatch.setattr(_chained, "SAVE_SECONDS", 0.0)
    data, calls = images(), []
    module = _chained.chain("a+b", {"a": counted(calls), "b": purifier(centred)})
    unbroken = module.build(data, module.Config(), Tools())(batch(data, range(10)))

    def dying(data, config, tools):
        def purify(given):
            if "a/6.png" in given.keys:
                raise KeyboardInterrupt
            return brightened(data, config, tools)(given)

        return purify

    killed = _chained.chain("a+b", {"a": purifier(dying), "b": purifier(centred)})
    with pytest.raises(KeyboardInterrupt):
        killed.build(data, killed.Config(), Tools(work=tmp_path))
    calls.clear()
    again = module.build(data, module.Config(), Tools(work=tmp_path))
    assert calls == data.keys[6:]
    assert torch.equal(again(batch(data, range(10))), unbroken)


def test_two_links_save_and_note_under_names_of_their_own(tmp_path):
    def saving(value):
        def build(data, config, tools):
            tools.array("state", (1,), "uint8")[0] = value
            tools.save("state", lambda: {"value": value})
            tools.note("value", value)
            tools.warn("careful")
            return lambda batch: batch.x.fill_(0) + tools.restore("state")["value"] / 255

        return purifier(build)

    tools = Tools(work=tmp_path)
    module = _chained.chain("a+b", {"a": saving(1), "b": saving(2)})
    made = module.build(images(), module.Config(), tools)(batch(images(), [0]))
    assert float(made[0, 0, 0, 0]) == pytest.approx(2 / 255)
    assert tools.notes == {
        "a": {"value": 1},
        "warnings": ["a: careful", "b: careful"],
        "b": {"value": 2},
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a.state.npy",
        "a.state.state",
        "b.state.npy",
        "b.state.state",
    ]


# -- audit files -------------------------------------------------------------------------------------------

FILE = """
source: {clean: data, raw: raw}
purifiers: [jcdp, [median, jcdp], {method: median+jcdp, name: mild, set: {jcdp.t_purify: 36}}]
"""


def test_chains_in_an_audit_file(tmp_path):
    (tmp_path / "a.yaml").write_text(FILE)
    asked, _ = audit.load(str(tmp_path / "a.yaml"), {})
    steps = [step.settings for step in chain.steps(asked, tmp_path) if step.stage == "purify"]
    assert [step.place().name for step in steps[:3]] == ["data.emn.jcdp", "data.emn.median+jcdp", "data.emn.mild"]
    assert [step.method for step in steps[:3]] == ["jcdp", "median+jcdp", "median+jcdp"]
    chosen = methods.configure("purifier", steps[2].method, steps[2].layers)
    assert chosen.config.jcdp.t_purify == 36 and chosen.origins["jcdp.t_purify"] == "file"


def test_labels_of_chains():
    assert audit.Choice(method="median+lab.centred").label == "median+centred"
    assert audit.Choice(method="lab.centred").label == "centred"


@pytest.mark.parametrize("text", ["[[]]", "[[median, 3]]", "[[median, {method: jcdp}]]"])
def test_chains_that_are_no_lists_of_names(text, tmp_path):
    (tmp_path / "a.yaml").write_text(f"source: {{clean: data, raw: raw}}\npurifiers: {text}\n")
    with pytest.raises(UsageError):
        audit.load(str(tmp_path / "a.yaml"), {})


def test_the_same_chain_twice_needs_a_name(tmp_path):
    (tmp_path / "a.yaml").write_text("purifiers: [median+jpeg, [median, jpeg]]")
    with pytest.raises(UsageError, match="same name"):
        audit.load(str(tmp_path / "a.yaml"), {})
