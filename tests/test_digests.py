"""Digests that anyone can compute again."""

from pathlib import Path

import pytest
from trees import image_tree, protect

from ue_audit import digests, imagefolder, manifest, shards

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


def test_the_tree_digest_depends_on_content_and_names_and_not_on_order() -> None:
    pairs = [("a/1.png", "0" * 64), ("b/2.png", "1" * 64)]
    assert digests.tree_digest(pairs) == digests.tree_digest(reversed(pairs))
    others = [pairs[:1], [("a/1.png", "1" * 64), ("b/2.png", "0" * 64)], [("a/3.png", "0" * 64), pairs[1]]]
    assert len({digests.tree_digest(other) for other in [pairs, *others]}) == 4


def test_the_digest_of_a_plain_folder_is_the_same_from_files_and_from_records(place: Path) -> None:
    listing = imagefolder.scan(Path("data/train"))
    assert manifest.source_digest(listing) == manifest.source_digest(imagefolder.intake(listing).sources)


def test_an_output_s_own_tree_is_the_digest_of_its_files(place: Path) -> None:
    assert manifest.read(Path("data.emn")).tree == manifest.source_digest(imagefolder.scan(Path("data.emn")))


def test_an_output_without_files_is_named_by_its_records(tmp_path: Path) -> None:
    def trainings(name: str, accuracy: float) -> str:
        work = shards.Work.open(tmp_path / name, {})
        work.commit("0", {}, [{"path": "trainings/1", "last": accuracy}])
        return manifest.read(work.seal(manifest.statement(stage="evaluate", method="supervised"))).tree

    assert trainings("one", 0.5) == trainings("two", 0.5) != trainings("three", 0.6)
