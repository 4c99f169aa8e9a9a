"""What the parts compute beside times: growth's folders, the frontier, a prior's curve, the seconds of a chain."""

import importlib
from pathlib import Path

import pytest
import torch
from trees import contents, image_tree, prior, protect

from ue_audit import imagefolder, manifest
from ue_audit.benches import demo, growth, published
from ue_audit.benches import prior as priors
from ue_audit.benches.frontier import undominated
from ue_audit.benches.purification import PSNR, RHO, evaluations
from ue_audit.benches.rows import Row
from ue_audit.benches.scene import Scene
from ue_audit.diffusion.unet import Config as Network
from ue_audit.diffusion.unet import UNet
from ue_audit.errors import UsageError
from ue_audit.purifiers import jcdp
from ue_audit.tool_settings import BENCH_PARTS, BenchSettings


@pytest.mark.parametrize("name", BENCH_PARTS)
def test_every_part_is_a_module(name: str) -> None:
    part = importlib.import_module(f"ue_audit.benches.{name.replace('-', '_')}")
    assert part.TITLE and callable(part.run)


@pytest.mark.parametrize("images", [3, 8, 21])
def test_a_grown_set_has_as_many_images_evenly(images: int, tmp_path: Path) -> None:
    source = image_tree(tmp_path / "data", classes=("a", "b"), each=4)
    growth.grow(source, tmp_path / "grown", images)
    found = imagefolder.intake(imagefolder.scan(tmp_path / "grown")).data
    counts = [sum(key.startswith(f"{name}/") for key in found.keys) for name in "ab"]
    assert sum(counts) == images and abs(counts[0] - counts[1]) <= 4
    ours = {image.tobytes() for image in imagefolder.intake(imagefolder.scan(source)).data.pixels}
    assert {image.tobytes() for image in found.pixels} <= ours


def test_the_frontier_is_what_nothing_beats() -> None:
    """Cheapest, best PSNR, least residual and one between stay; one that is worse in all, or equal but slower, goes."""

    def row(what: str, seconds: float, psnr: float, rho: float) -> Row:
        return Row(what, seconds=seconds, figures={PSNR: psnr, RHO: rho})

    rows = [
        row("cheap", 1, 25, 0.4),
        row("sharp", 4, 29, 0.5),
        row("gone", 4, 24, 0.2),
        row("between", 2, 26, 0.4),
        row("worse", 5, 23, 0.6),
        row("slower", 2.5, 26, 0.4),
    ]
    assert [found.what for found in undominated(rows)] == ["cheap", "sharp", "gone", "between"]


def test_the_first_step_that_reaches() -> None:
    curve = [(10, 30.0), (20, 31.5), (30, 31.0), (40, 33.0)]
    assert priors.first_at(curve, 31.0) == 20 and priors.first_at(curve, 32.0) == 40
    assert priors.first_at(curve, 33.1) is None


def test_no_ratio_to_a_prior_that_learnt_nothing() -> None:
    ours = [(10, 30.0), (20, 31.5)]
    assert priors.ratio(ours, [(10, 28.0), (40, 29.9)], floor=28.1) == 4
    assert priors.ratio(ours, [(10, 28.0), (40, 29.9)], floor=28.1, step=0.5) == 2, "its steps are faster"
    assert priors.ratio(ours, [(40, 28.3)], floor=28.1) is None
    assert priors.ratio(ours, [(40, 32.0)], floor=28.1) is None


def test_priors_differ_in_their_timesteps_alone_or_in_the_recipe() -> None:
    ours, everything, published_recipe = priors.contenders("small", 400).values()
    changed = {key for key, value in ours if getattr(everything, key) != value}
    assert changed == {"t_max"} and everything.t_max == 1000
    assert published_recipe.network == ours.network and published_recipe.batch == ours.batch
    assert (published_recipe.predicts, published_recipe.optimizer, published_recipe.lr) == ("noise", "adam", 2e-4)


def test_evaluations_of_an_image() -> None:
    assert evaluations(jcdp.Config(t_purify=20, passes=4, steps=None)) == 80
    assert evaluations(jcdp.Config(t_purify=60)) == 4


def test_no_layer_of_a_timed_network_is_zero() -> None:
    network = published.awake(UNet(Network(channels=8, multipliers=(1,), attention=(), groups=4)))
    layers = [part for part in network.modules() if isinstance(part, torch.nn.Conv2d)]
    assert layers and all(bool(layer.weight.any()) for layer in layers)


# -- a finished chain ----------------------------------------------------------------------------------------


def scene(tmp_path: Path, folder: Path | None) -> Scene:
    return Scene(BenchSettings(demo=folder, device="cpu"), tmp_path)


def test_where_the_seconds_went(tmp_path: Path) -> None:
    raw = image_tree(tmp_path / "chain" / "raw")
    made = [protect(raw, tmp_path / "chain" / "data.emn"), prior(raw, tmp_path / "chain" / "raw.prior.ckpt")]
    before = contents(tmp_path)
    part = demo.run(scene(tmp_path, tmp_path / "chain"))
    assert contents(tmp_path) == before
    took = {path.name: manifest.read(path).run.seconds for path in made}
    *stages, whole = part.rows
    assert {row.what.partition(" ")[2]: row.seconds for row in stages} == took
    assert whole.seconds == sum(took.values())
    assert [row.seconds for row in stages] == sorted(took.values(), reverse=True)


def test_no_finished_chain_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "Not measured" in demo.run(scene(tmp_path, None)).notes[0]
    with pytest.raises(UsageError, match="found no folder"):
        demo.run(scene(tmp_path, tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="found no output"):
        demo.run(scene(tmp_path, tmp_path / "empty"))
