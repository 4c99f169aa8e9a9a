"""Every registered protection, as the stage runs it: budgets, repeatability, and the folders that owners have.

A method's quick settings are `QUICK` in its own test file.
"""

import importlib
import shutil

import numpy as np
import pytest
from PIL import Image
from stand_ins import owner, photos

from ue_audit import imagefolder, manifest, methods, protect
from ue_audit.errors import UsageError
from ue_audit.imagefolder import decode
from ue_audit.settings import ProtectSettings
from ue_audit.tools import Tools

NAMES = methods.names("protection")
QUICK = {name: importlib.import_module(f"protections.test_{name}").QUICK for name in NAMES}
ONE_SIDED = {"cuda", "ops"}  # methods that brighten, or set pixels, and have no reason to be balanced
SEEDLESS = {"ops"}  # methods in which nothing is drawn
EVERY = pytest.mark.parametrize("name", NAMES)


def run(root, name, **more):
    settings = {"source": root / "data", "method": name, "output": root / "out", "fresh": True, "device": "cpu"}
    return protect.run(ProtectSettings(**settings | {"layers": {"flag": QUICK[name]}} | more))


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.*g"))}


def changes(root, out):
    pairs = ((decode(out / r["path"]), decode(root / r["source"])) for r in manifest.records(out))
    return [x_ue.pixels.astype(int) - x.pixels for x_ue, x in pairs]


@EVERY
def test_budget_repeatability_and_inputs(name, tmp_path):
    owner(tmp_path / "data", each=6, size=16)
    before = files(tmp_path / "data")
    out = run(tmp_path, name)
    first = files(out)
    assert files(tmp_path / "data") == before
    assert manifest.verify(out, chain=True).problems == []  # budgets are measured again from the pixels
    found = changes(tmp_path / "data" / "train", out)
    assert len(found) == 18 and all(np.abs(change).max() > 0 for change in found)
    signs = np.concatenate([np.sign(change[change != 0]) for change in found])
    assert name in ONE_SIDED or 0.3 < (signs < 0).mean() < 0.7  # nothing is clamped away
    assert files(run(tmp_path, name)) == first
    assert name in SEEDLESS or files(run(tmp_path, name, seed=1)) != first


@EVERY
def test_the_folders_that_owners_have(name, tmp_path):
    """Names with spaces and foreign letters, classes of 9, 4 and 1 image, grey photos."""
    for number, (label, count) in enumerate({"tabby cat": 9, "größe": 4, "犬": 1}.items()):
        photos(tmp_path / "one", classes=1, each=count, size=16, seed=number)
        shutil.move(tmp_path / "one" / "class0", tmp_path / "data" / label)
    for file in (tmp_path / "data" / "größe").glob("*.png"):
        Image.open(file).convert("L").save(file)
    out = run(tmp_path, name)
    assert manifest.verify(out, chain=True).problems == []
    assert {path.parent.name for path in out.rglob("*.png")} == {"tabby cat", "größe", "犬"}
    assert sum(bool(change.any()) for change in changes(tmp_path / "data", out)) == 14


@EVERY
def test_mixed_sizes_are_protected_at_their_own(name, tmp_path):
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number, side in enumerate([(16, 16), (24, 20), (33, 17), (64, 64)] * 2):
            pixels = rng.integers(60, 190, (*side, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / label / f"{number}.png")
    out = run(tmp_path, name, size=16)
    assert manifest.verify(out, chain=True).problems == []
    found = changes(tmp_path / "data", out)
    assert {change.shape[:2] for change in found} == {(16, 16), (24, 20), (33, 17), (64, 64)}
    assert all(change.any() for change in found)


@EVERY
def test_images_without_classes(name, tmp_path):
    """A method that needs labels says so; any other runs, or asks for the encoder it needs."""
    photos(tmp_path / "one", classes=1, each=12, size=16)
    shutil.move(tmp_path / "one" / "class0", tmp_path / "data")
    needs = methods.load("protection", name).NEEDS
    if "labels" in needs:
        with pytest.raises(UsageError, match="two class folders"):
            run(tmp_path, name)
    elif "encoder" in needs:
        with pytest.raises(Exception, match="encoder") as caught:
            run(tmp_path, name)
        assert "--encoder" in caught.value.hint
    else:
        assert manifest.verify(run(tmp_path, name), chain=True).problems == []


@EVERY
def test_a_share_of_every_class(name, tmp_path):
    photos(tmp_path / "data", each=6, size=16)
    out = run(tmp_path, name, ratio=0.5)
    changed = [r["label"] for r in manifest.records(out) if r["linf"]]
    assert sorted(changed) == [f"class{k}" for k in range(3) for _ in range(3)]
    assert manifest.verify(out, chain=True).problems == []


@EVERY
def test_cost_and_time_are_known_before(name, tmp_path):
    data = imagefolder.intake(imagefolder.scan(photos(tmp_path / "data", each=8, size=16))).data
    chosen = methods.configure("protection", name, {"flag": QUICK[name]})
    assert 0 <= chosen.module.passes(chosen.config, 24) < float("inf")
    assert chosen.module.estimate(data, chosen.config, Tools()) > 0
