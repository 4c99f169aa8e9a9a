"""Intake: what is refused, with its reason and all at once; what is converted, exactly and on record."""

import os
from pathlib import Path

import numpy as np
import pytest
import spoiled
from PIL import ImageCms
from trees import image_tree, noise, saved

from ue_audit import imagefolder
from ue_audit.errors import InputRefused, IntegrityError, UsageError
from ue_audit.imagefolder import decode

KINDS = [pytest.param(*key, data, id=f"{key[0]} {ascii(key[1])}") for key, data in spoiled.FILES.items()]


def put(root: Path, path: str, data: bytes) -> None:
    (root / path).parent.mkdir(exist_ok=True)
    try:
        (root / path).write_bytes(data)
    except OSError:
        pytest.skip("this file system takes no such name")


def refusals(root: Path) -> list[imagefolder.Refusal]:
    """What an intake refuses; it must not do anything else."""
    with pytest.raises(InputRefused) as caught:
        imagefolder.intake(imagefolder.scan(root), size=8)
    skipped = imagefolder.intake(imagefolder.scan(root), size=8, on_bad="skip", max_bad=1)
    assert [str(refusal) for refusal in skipped.refused] == list(caught.value.details)
    assert caught.value.exit_code == 3 and caught.value.hint
    return skipped.refused


# -- refused --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reason", "path", "data"), KINDS)
def test_a_bad_file_is_refused_with_its_reason(tmp_path: Path, reason: str, path: str, data: bytes) -> None:
    root = image_tree(tmp_path / "data")
    put(root, path, data)
    found = refusals(root)
    assert [refusal.reason for refusal in found] == [reason]
    assert found[0].path.isprintable() and found[0].detail.isprintable()
    assert len(imagefolder.intake(imagefolder.scan(root), size=8, on_bad="skip", max_bad=1).data) == 8


@pytest.mark.parametrize("kind", spoiled.OTHERS)
def test_bad_links_and_names_are_refused_with_their_reason(tmp_path: Path, kind: str) -> None:
    root = image_tree(tmp_path / "data")
    reason, spoil, paths = spoiled.OTHERS[kind]
    spoil(root)
    assert [(refusal.path, refusal.reason) for refusal in refusals(root)] == [(path, reason) for path in paths]


def test_there_are_more_than_sixty_kinds() -> None:
    assert len(spoiled.FILES) + len(spoiled.OTHERS) >= 60


def test_all_of_them_at_once_in_one_error(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data")
    for (_, path), data in spoiled.FILES.items():
        put(root, path, data)
    for _, spoil, _ in spoiled.OTHERS.values():
        spoil(root)
    listed = sum(len(paths) for _, _, paths in spoiled.OTHERS.values()) + len(spoiled.FILES)
    assert len(refusals(root)) == listed


def test_nothing_is_written_and_nothing_outside_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = image_tree(tmp_path / "data")
    for _, spoil, _ in spoiled.OTHERS.values():
        spoil(root)
    before = sorted(tmp_path.rglob("*"))
    read: list[Path] = []
    original = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: (read.append(self), original(self))[1])
    refusals(root)
    assert sorted(tmp_path.rglob("*")) == before
    assert read and all(path.resolve().is_relative_to(root) for path in read)


def test_unreadable_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = image_tree(tmp_path / "data")
    original, scandir = Path.read_bytes, os.scandir

    def deny(self: Path) -> bytes:
        if self.name == "1.png":
            raise PermissionError(13, "Permission denied")
        return original(self)

    def deny_folder(path: Path) -> object:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(Path, "read_bytes", deny)
    monkeypatch.setattr("ue_audit.scanning.os.scandir", deny_folder)
    with pytest.raises(InputRefused) as caught:
        imagefolder.intake(imagefolder.scan(root))
    assert [line.split(" (")[0] for line in caught.value.details] == ["a/1.png: unreadable", "b: unreadable"]


@pytest.mark.parametrize(
    ("bad", "share", "taken"), [(1, 0.05, True), (1, 0.04, False), (2, 0.1, True), (2, 0.05, False), (0, 0.0, True)]
)
def test_skipping_goes_on_up_to_its_share(tmp_path: Path, bad: int, share: float, taken: bool) -> None:
    """20 files in all."""
    root = image_tree(tmp_path / "data", each=10)
    for number in range(bad):
        (root / "a" / f"{number}.png").write_bytes(b"")
    listing = imagefolder.scan(root)
    if not taken:
        with pytest.raises(InputRefused, match=f"{bad} of 20 files"):
            imagefolder.intake(listing, on_bad="skip", max_bad=share)
        return
    result = imagefolder.intake(listing, on_bad="skip", max_bad=share)
    reasons = {"empty": bad} if bad else {}
    assert result.counts() == {"seen": 20, "taken": 20 - bad, "refused": bad, "reasons": reasons}
    assert len(result.data) == len(result.sources) == 20 - bad
    assert bool(result.warnings()) == bool(bad)


def test_skipping_must_not_make_a_class_vanish(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data", each=1)
    (root / "b" / "0.png").write_bytes(b"")
    with pytest.raises(InputRefused, match="no usable image is left in b"):
        imagefolder.intake(imagefolder.scan(root), on_bad="skip", max_bad=1)


# -- arrays ---------------------------------------------------------------------------------------------


def test_mixed_and_oblong_sizes_need_a_size(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data", each=2)
    (root / "a" / "2.png").write_bytes(saved(noise(1, 10, 12)))
    with pytest.raises(UsageError, match=r"8x8 \(4\), 12x10 \(1\)") as caught:
        imagefolder.intake(imagefolder.scan(root))
    assert caught.value.hint == "give the working size, such as --size 8"
    taken = imagefolder.intake(imagefolder.scan(root), size=8)
    assert taken.data.pixels.shape == (5, 8, 8, 3)
    assert (taken.sources[2].width, taken.sources[2].height) == (12, 10)
    assert np.array_equal(taken.data.pixels[2], imagefolder.resized(noise(1, 10, 12), 8, 8))
    assert np.array_equal(taken.native(2), noise(1, 10, 12))
    oblong = tmp_path / "oblong"
    (oblong / "a").mkdir(parents=True)
    (oblong / "a" / "1.png").write_bytes(saved(noise(1, 10, 12)))
    with pytest.raises(UsageError, match=r"12x10 \(1\)"):
        imagefolder.intake(imagefolder.scan(oblong))


def test_refusals_come_before_sizes(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data", each=2)
    (root / "a" / "2.png").write_bytes(saved(noise(1, 10, 12)))
    (root / "a" / "3.png").write_bytes(b"")
    with pytest.raises(InputRefused):
        imagefolder.intake(imagefolder.scan(root))


def test_a_colour_profile_is_dropped_on_record_and_in_a_warning(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    (root / "a" / "0.png").write_bytes(saved(noise(0), icc_profile=profile))
    taken = imagefolder.intake(imagefolder.scan(root))
    assert taken.sources[0].actions == ("icc-profile-dropped",)
    assert taken.warnings() == ["1 images carry a colour profile, which outputs do not keep"]


def test_a_source_that_changes_under_us_is_noticed(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data")
    taken = imagefolder.intake(imagefolder.scan(root))
    (root / "a" / "0.png").write_bytes(saved(noise(99)))
    with pytest.raises(IntegrityError, match="changed"):
        taken.native(0)


def test_skipped_rows_leave_no_gap(tmp_path: Path) -> None:
    root = image_tree(tmp_path / "data", each=10)
    (root / "a" / "3.png").write_bytes(b"")
    taken = imagefolder.intake(imagefolder.scan(root), on_bad="skip", max_bad=0.1)
    assert taken.data.pixels.shape == (19, 8, 8, 3)
    for row, key in enumerate(taken.data.keys):
        assert np.array_equal(taken.data.pixels[row], decode(root / key).pixels)


def test_larger_than_memory_arrays_lie_on_disk_without_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagefolder, "IN_MEMORY", 100)
    root = image_tree(tmp_path / "data")
    taken = imagefolder.intake(imagefolder.scan(root), array=imagefolder.spill(tmp_path / "room"))
    assert isinstance(taken.data.pixels, np.memmap) and list((tmp_path / "room").iterdir()) == []
    assert np.array_equal(taken.data.pixels, imagefolder.intake(imagefolder.scan(root)).data.pixels)


# -- real images ----------------------------------------------------------------------------------------


def test_real_photographs_of_mixed_sizes(shared_data: Path, tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(shared_data / "oxford_pets_part.zip") as archive:
        names = [name for name in archive.namelist() if "/Abyssinian/" in name or "/Bengal/" in name]
        archive.extractall(tmp_path, [name for name in names if name.startswith("train/")][::10])
    taken = imagefolder.intake(imagefolder.scan(tmp_path / "train"), size=64)
    assert len(taken.data) >= 15 and taken.refused == [] and len(taken.data.classes) == 2
    for row in (0, len(taken.data) - 1):
        native = taken.native(row)
        assert (native.shape[1], native.shape[0]) == (taken.sources[row].width, taken.sources[row].height)
        gap = native.mean(axis=(0, 1)) - taken.data.pixels[row].mean(axis=(0, 1))
        assert np.abs(gap).max() < 2
