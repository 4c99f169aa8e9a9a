"""Listing a folder: order, classes, limits, parts, and names of outputs."""

import os
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from trees import image_tree, noise, saved

from ue_audit import imagefolder
from ue_audit.errors import InputRefused, UsageError


def test_entries_and_classes_are_sorted_and_nested_folders_belong_to_their_class(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data", ("zebra", "ant"), each=2)
    (root / "ant" / "young").mkdir()
    (root / "ant" / "young" / "9.png").write_bytes(saved(noise(1)))
    listing = imagefolder.scan(root)
    assert [entry.path for entry in listing.entries] == [
        "ant/0.png", "ant/1.png", "ant/young/9.png", "zebra/0.png", "zebra/1.png",
    ]  # fmt: skip
    assert listing.classes == ("ant", "zebra")
    assert [entry.label for entry in listing.entries] == ["ant"] * 3 + ["zebra"] * 2
    taken = imagefolder.intake(listing)
    assert taken.data.labels.tolist() == [0, 0, 0, 1, 1] and taken.data.keys[2] == "ant/young/9.png"


def test_hidden_root_entries_our_own_files_and_litter_are_passed_over(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data")
    for name in (".git", ".cache"):
        (root / name).mkdir()
        (root / name / "1.png").write_bytes(saved(noise(1)))
    for name in (
        ".hidden",
        "ue-audit.json",
        "ue-audit.sums",
        "ue-audit.records.jsonl",
        "a/.DS_Store",
        "a/Icon\r",
        "b/ehthumbs.db",
        "b/Thumbs.db",
        "a/._0.png",
        "b/0.xmp",
        "b/0.AAE",
    ):
        (root / name).write_text("")
    listing = imagefolder.scan(root)
    assert listing.classes == ("a", "b") and len(listing.entries) == 8 and listing.refused == ()


def test_empty_class_folders_are_left_out_and_named(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data")
    (root / "never").mkdir()
    (root / "nested" / "never").mkdir(parents=True)
    listing = imagefolder.scan(root)
    assert listing.classes == ("a", "b") and listing.empty == ("nested", "never")
    assert imagefolder.intake(listing).warnings() == ["class folders without an image are left out: nested, never"]


def test_links_inside_the_folder_are_followed_to_files(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data", each=1)
    (root / "a" / "link.png").symlink_to("../b/0.png")
    listing = imagefolder.scan(root)
    assert [entry.path for entry in listing.entries] == ["a/0.png", "a/link.png", "b/0.png"]
    assert np.array_equal(imagefolder.intake(listing).data.pixels[1], noise(1000))


def test_a_root_that_is_a_link_is_fine(tmp_path: Path) -> None:
    image_tree(tmp_path / "data")
    (tmp_path / "link").symlink_to("data")
    assert len(imagefolder.intake(imagefolder.scan(tmp_path / "link")).data) == 8


def test_hostile_but_legal_names_pass_and_keep_their_bytes(tmp_path: Path) -> None:
    names = ["[red]", "[bold]", "<img src=x onerror=alert(1)>", "-rf", "a b", "%41", "|pipe|", "`id`", "日本語", "🦊"]
    root = tmp_path / "data"
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / f"{name}.png").write_bytes(saved(noise(1)))
    taken = imagefolder.intake(imagefolder.scan(root))
    assert sorted(taken.data.classes) == sorted(names) and taken.outputs() == taken.data.keys


@pytest.mark.parametrize(
    ("limit", "per_class"), [(1, [1]), (2, [1, 1]), (5, [2, 2, 1]), (7, [3, 3, 1]), (99, [4, 4, 1])]
)
def test_a_limit_takes_from_the_classes_in_turn(tmp_path: Path, limit: int, per_class: list[int]) -> None:
    root = image_tree(tmp_path / "data", each=4)
    image_tree(root, ("c",), each=1)
    listing = imagefolder.scan(root, limit=limit)
    assert sorted(Counter(entry.label for entry in listing.entries).values(), reverse=True) == per_class
    assert list(listing.entries) == sorted(listing.entries)


def test_flat_ignores_classes(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data")
    (root / "stray.png").write_bytes(saved(noise(1)))
    listing = imagefolder.scan(root, flat=True)
    assert len(listing.entries) == 9 and listing.classes == () and listing.refused == ()
    data = imagefolder.intake(listing).data
    assert data.labels is None and data.classes == ()


@pytest.mark.parametrize(
    ("sources", "outputs"),
    [
        (["a/1.png"], ["a/1.png"]),
        (["a/1.jpg", "a/2.PNG"], ["a/1.png", "a/2.png"]),
        (["a/1.jpg", "a/1.png"], ["a/1.jpg.png", "a/1.png.png"]),
        (["a/1.jpg", "b/1.png"], ["a/1.png", "b/1.png"]),
        (["a/A.jpg", "a/a.png"], ["a/A.jpg.png", "a/a.png.png"]),
        (["a/1.jpg", "a/1.jpg.png", "a/1.png"], ["a/1.jpg.png", "a/1.jpg.png.png", "a/1.png.png"]),
        (["a/v1.2.jpg"], ["a/v1.2.png"]),
    ],
)
def test_output_paths_never_meet(sources: list[str], outputs: list[str]) -> None:
    entries = [imagefolder.Entry(path, "a", Path(path)) for path in sources]
    assert imagefolder.output_paths(entries) == outputs


@pytest.mark.parametrize(
    ("folders", "is_parts"),
    [
        (["train/a"], True),
        (["train/a", "test/a", "val/a", "raw"], True),
        (["train/a", "test/a", "annotations"], True),
        (["train", "test"], True),
        (["train", "val", "test", "raw"], True),
        (["train"], False),
        (["train", "bus", "car"], False),
        (["a", "b"], False),
        (["a", "test"], False),
    ],
)
def test_parts(tmp_path: Path, folders: list[str], is_parts: bool) -> None:
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    found = imagefolder.parts(tmp_path)
    assert found.train == (tmp_path / "train" if is_parts else tmp_path)
    assert found.test == (tmp_path / "test" if is_parts and (tmp_path / "test").exists() else None)


def test_a_class_called_train_is_no_part(tmp_path: Path) -> None:
    image_tree(tmp_path, ("bus", "train"))
    (tmp_path / "train" / "old").mkdir()
    assert imagefolder.parts(tmp_path) == imagefolder.Parts(tmp_path, None, None)


@pytest.mark.parametrize("place", ["nothing", "file", "empty", "images"])
def test_a_root_that_holds_no_classes_is_a_usage_error(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.png").write_bytes(saved(noise(1)))
    with pytest.raises((UsageError, InputRefused)) as caught:
        imagefolder.intake(imagefolder.scan(tmp_path / place))
    assert caught.value.exit_code == (3 if place == "images" else 2)


def test_a_folder_is_flat_only_if_all_its_images_lie_in_the_root(tmp_path: Path) -> None:
    flat = image_tree(tmp_path / "data", ("one",)) / "one"
    found = imagefolder.scan(flat, flat=None)
    assert [(e.path, e.label) for e in found.entries] == [(f"{n}.png", None) for n in range(4)]
    assert found.classes == () and found.refused == () and len(imagefolder.scan(flat, flat=None, limit=2).entries) == 2
    (flat.parent / "stray.png").write_bytes(saved(noise(1)))
    mixed = imagefolder.scan(flat.parent, flat=None)
    assert mixed.classes == ("one",) and [refusal.path for refusal in mixed.refused] == ["stray.png"]


def test_a_junction_is_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of Windows that leads elsewhere says that it is a folder; only its tag tells."""
    root = image_tree(tmp_path / "data")
    image_tree(tmp_path / "data/b/away", ("c",))
    real = os.scandir

    class Item:
        def __init__(self, item: os.DirEntry[str]) -> None:
            self.item = item

        def __getattr__(self, name: str) -> Any:
            return getattr(self.item, name)

        def stat(self, *, follow_symlinks: bool = True) -> Any:
            return SimpleNamespace(st_reparse_tag=0xA0000003 if self.item.name == "away" else 0)

    def scandir(folder: Path) -> Any:
        with real(folder) as items:
            return nullcontext([Item(item) for item in items])

    monkeypatch.setattr(os, "scandir", scandir)
    listing = imagefolder.scan(root)
    assert len(listing.entries) == 8 and [r.path for r in listing.refused] == ["b/away"]
    assert listing.refused[0].reason.startswith("link-")


def test_names_that_windows_cannot_write_are_told(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data", ("a", "what?"), each=1)
    (root / "a/aux.png").write_bytes(saved(noise(5)))
    (told,) = imagefolder.intake(imagefolder.scan(root)).warnings()
    assert told.startswith("2 names cannot be written on Windows, the first for the name of a device: a/aux.png")


@pytest.mark.parametrize("name", ["UE-AUDIT.JSON", "Ue-Audit.x"])
def test_our_names_are_kept_whatever_their_case(name: str, tmp_path: Path) -> None:
    """Where case is ignored such a class would take the place of the manifest."""
    root = image_tree(tmp_path / "data", ("a", name))
    assert [refusal.reason for refusal in imagefolder.scan(root).refused] == ["name-reserved"]
