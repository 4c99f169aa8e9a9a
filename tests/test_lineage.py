"""Which output came from which, and the newest of a stage."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
from trees import child, image_tree, noise, prior, protect, saved

from ue_audit import digests, imagefolder, manifest, shards
from ue_audit.errors import IntegrityError, UsageError

pytestmark = pytest.mark.usefixtures("no_sync")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a set of all parts, and a protected one."""
    monkeypatch.chdir(tmp_path)
    image_tree(Path("data/train"))
    image_tree(Path("data/test"), each=2)
    image_tree(Path("data/val"), each=1)
    protect(Path("data/train"), Path("data.emn"))
    return tmp_path


def test_find_and_read(place: Path) -> None:
    assert manifest.find(Path("data")) is None and manifest.find(Path("nothing")) is None
    assert manifest.read(Path("data.emn")).method == "brighter"
    with pytest.raises(UsageError, match="no manifest there"):
        manifest.read(Path("data"))
    with pytest.raises(UsageError, match="nothing there"):
        manifest.read(Path("nothing"))
    (Path("data.emn") / manifest.MANIFEST).unlink()
    with pytest.raises(IntegrityError, match="is missing"):
        manifest.find(Path("data.emn"))


def test_records_are_those_sealed(place: Path) -> None:
    found = manifest.records(Path("data.emn"))
    assert [record["path"] for record in found] == [f"{c}/{i}.png" for c in "ab" for i in range(4)]
    assert found[0]["source"] == "a/0.png" and found[0]["linf"] == 3 and found[0]["label"] == "a"
    place = Path("data.emn") / manifest.RECORDS
    place.write_bytes(place.read_bytes().replace(b'"linf":3', b'"linf":2'))
    with pytest.raises(IntegrityError):
        manifest.records(Path("data.emn"))


def test_the_line_of_ancestors_ends_at_the_owner_s_folder(place: Path) -> None:
    child(Path("data.emn"), Path("data.emn.jcdp"))
    line = manifest.ancestors(Path("data.emn.jcdp"))
    assert [(role, str(path)) for role, path, _ in line] == [("protected", "data.emn"), ("source", "data/train")]
    assert [m.stage if m else None for _, _, m in line] == ["protect", None]
    assert manifest.ancestors(Path("data/train")) == []


def test_a_line_with_a_gap_ends_there(place: Path) -> None:
    child(Path("data.emn"), Path("data.emn.jcdp"))
    shutil.rmtree("data.emn")
    line = manifest.ancestors(Path("data.emn.jcdp"))
    assert [(role, str(path), m) for role, path, m in line] == [("protected", "data.emn", None)]
    assert manifest.clean_of(Path("data.emn.jcdp")) is None


def test_clean_test_and_val_of_every_generation(place: Path) -> None:
    child(Path("data.emn"), Path("data.emn.jcdp"))
    child(Path("data/train"), Path("data.jcdp"), role="source")
    for folder in ("data.emn", "data.emn.jcdp"):
        assert manifest.clean_of(Path(folder)) == Path("data/train")
        assert manifest.test_of(Path(folder)) == Path("data/test")
        assert manifest.val_of(Path(folder)) == Path("data/val")
    assert manifest.clean_of(Path("data")) is None
    for folder in ("data", "data/train"):
        assert manifest.test_of(Path(folder)) is not None
        assert manifest.test_of(Path(folder)).resolve() == Path("data/test").resolve()


def test_a_set_protected_elsewhere_names_its_clean_originals(place: Path) -> None:
    image_tree(Path("foreign"))
    clean = manifest.dependency("clean", Path("data/train"), output=Path("imported"), digest="0" * 64)
    work = shards.Work.open(Path("imported"), {})
    work.commit("0", {"a/1.png": saved(noise(1))}, [])
    source = manifest.dependency("source", Path("foreign"), output=Path("imported"), digest="1" * 64)
    work.seal(manifest.statement(stage="import", method="foreign", dependencies=[source, clean]))
    assert manifest.clean_of(Path("imported")) == Path("data/train")


def test_parents_are_found_after_the_whole_place_has_moved(
    place: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    child(Path("data.emn"), Path("data.emn.jcdp"))
    new = tmp_path_factory.mktemp("moved") / "all of it"
    shutil.copytree(place, new)
    shutil.rmtree(place / "data")
    assert manifest.clean_of(new / "data.emn.jcdp").resolve() == (new / "data/train").resolve()
    assert manifest.verify(new / "data.emn.jcdp", chain=True).problems == []


def test_images_taken_from_an_output_are_those_it_was_sealed_with(place: Path) -> None:
    def taken() -> list[imagefolder.SourceRecord]:
        return imagefolder.intake(imagefolder.scan(Path("data.emn"), limit=5)).sources

    manifest.check_taken(Path("data.emn"), taken())
    Path("data.emn/a/0.png").write_bytes(saved(noise(99)))
    Path("data.emn/a/00.png").write_bytes(saved(noise(98)))
    with pytest.raises(IntegrityError, match="2 images in data.emn") as caught:
        manifest.check_taken(Path("data.emn"), taken())
    assert caught.value.details == ("a/0.png", "a/00.png")
    manifest.check_taken(Path("data/train"), taken())  # a plain folder has nothing to be held against


def test_a_parent_on_another_drive_is_found(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows knows no relative path from one drive to another: the manifest then has the whole one."""
    real = os.path.relpath

    def relpath(path: Any, start: Any = ".") -> str:
        if ("elsewhere" in str(path)) != ("elsewhere" in str(start)):
            raise ValueError("path is on mount 'D:', start on mount 'C:'")
        return real(path, start)

    monkeypatch.setattr(os.path, "relpath", relpath)
    source = image_tree(place / "elsewhere/data/train")
    image_tree(place / "elsewhere/data/test", each=1)
    out = protect(source, Path("mine"))
    assert manifest.clean_of(out) == source and manifest.test_of(out) == source.with_name("test")
    assert manifest.verify(out, chain=True).problems == []
    portable = digests.portable({"source": source, "out": out.resolve()}, place)
    assert portable == {"source": source.as_posix(), "out": "mine"}


def test_odd_names_in_links_to_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = image_tree(Path("my photos #1 [100%]?/train"))
    protect(source, Path("out dir"))
    assert manifest.clean_of(Path("out dir")) == source
    assert "%20" in manifest.read(Path("out dir")).dependencies[0].uri


def test_a_prior_and_its_manifest_beside_it(place: Path) -> None:
    image_tree(Path("raw/any"))
    path = prior(Path("raw"), Path("prior.ckpt"))
    assert sorted(p.name for p in place.glob("prior*")) == ["prior.ckpt", "prior.ckpt.ue-audit.json"]
    m = manifest.read(path)
    assert m.stage == "train-prior" and m.subject == "prior.ckpt" and m.sha256 == manifest.file_sha256(path)
    assert manifest.locate(path, m.dependencies[0]) == Path("raw")
    named = manifest.dependency("prior", path, output=Path("data.emn"))
    assert named.digest == {"sha256": m.sha256} and named.uri == "../prior.ckpt"


# -- the newest -----------------------------------------------------------------------------------------


def test_the_newest_is_the_one_that_finished_last(place: Path) -> None:
    time.sleep(0.01)
    protect(Path("data/train"), Path("data.a"), levels=1)
    assert manifest.newest("protect") == Path("data.a")
    time.sleep(0.01)
    protect(Path("data/train"), Path("data.emn"), fresh=True)
    assert manifest.newest("protect") == Path("data.emn")


def test_the_newest_skips_other_stages_and_unfinished_work(place: Path) -> None:
    child(Path("data.emn"), Path("data.emn.jcdp"))
    shards.Work.open(Path("data.lsp"), {}).commit("0", {}, [])
    assert manifest.newest("protect") == Path("data.emn")
    assert manifest.newest("purify") == Path("data.emn.jcdp")
    image_tree(Path("raw/any"))
    prior(Path("raw"), Path("prior.ckpt"))
    assert manifest.newest("train-prior") == Path("prior.ckpt")


def test_none_or_different_lineages_are_usage_errors(place: Path) -> None:
    with pytest.raises(UsageError, match="no complete output of evaluate"):
        manifest.newest("evaluate")
    image_tree(Path("cats"), ("x", "y"), each=1)
    protect(Path("cats"), Path("cats.emn"))
    with pytest.raises(UsageError, match="2 different sets") as caught:
        manifest.newest("protect")
    assert [detail.split(" ")[0] for detail in caught.value.details] == ["cats.emn", "data.emn"]


def test_lineage_goes_back_through_generations(place: Path) -> None:
    child(Path("data.emn"), Path("data.emn.jcdp"))
    time.sleep(0.01)
    child(Path("data/train"), Path("data.ddpm"), role="source")
    assert manifest.newest("purify") == Path("data.emn.jcdp")  # a ceiling is no attack, however new
