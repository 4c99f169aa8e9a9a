"""split: disjoint parts, byte-identical copies, parts that are kept, what is refused, kill and resume."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from kill import beside, changes, killed_runs
from PIL import Image
from stand_ins import photos
from test_shards import same_but_for_run_details
from trees import contents, noise, saved

from ue_audit import cli, imagefolder, manifest, protect, shards, split
from ue_audit.errors import InputRefused, IntegrityError, UsageError
from ue_audit.imagefolder import decode, pixels_sha256
from ue_audit.settings import ProtectSettings
from ue_audit.tool_settings import SplitSettings

SOURCE, OUT = Path("photos"), Path("data")
PARTS = ("train", "val", "test", "raw")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    photos(SOURCE, classes=3, each=20)
    return tmp_path


def settings(**more: object) -> SplitSettings:
    return SplitSettings(**{"source": SOURCE, "output": OUT} | more)


def listed(out: Path = OUT) -> dict[str, list[str]]:
    """part -> relative paths of its images."""
    return {part: sorted(p.relative_to(out / part).as_posix() for p in (out / part).rglob("*.*")) for part in PARTS}


# -- parts ---------------------------------------------------------------------------------------------------------


def test_every_image_lands_in_one_part_byte_for_byte() -> None:
    out = split.run(settings())
    parts = listed(out)
    assert {part: len(paths) for part, paths in parts.items()} == {"train": 39, "val": 3, "test": 6, "raw": 12}
    assert sorted(sum(parts.values(), [])) == sorted(p.relative_to(SOURCE).as_posix() for p in SOURCE.rglob("*.png"))
    for part, paths in parts.items():
        assert all((out / part / path).read_bytes() == (SOURCE / path).read_bytes() for path in paths)
        assert Counter(path.split("/")[0] for path in paths).keys() == {"class0", "class1", "class2"}
    assert manifest.verify(out, chain=True).problems == []
    assert imagefolder.parts(out) == (out / "train", out / "test", out / "val")


def test_copies_are_files_of_their_own() -> None:
    out = split.run(settings())
    first = SOURCE / manifest.records(out)[0]["source"]
    place = out / manifest.records(out)[0]["path"]
    first.write_bytes(b"edited")
    assert not place.is_symlink() and place.stat().st_nlink == 1 and place.read_bytes() != b"edited"
    assert manifest.verify(out).problems == []
    assert [p.path for p in manifest.verify(out, chain=True).problems] == ["[source]"]


def test_renamed_files_stay_where_they_are() -> None:
    split.run(settings())
    before = {r["pixels_sha256"]: r["part"] for r in manifest.records(OUT)}
    for number, path in enumerate(sorted(SOURCE.rglob("*.png"), reverse=True)):
        path.rename(path.with_name(f"IMG_{number}.png"))
    split.run(settings(output=Path("again")))
    assert {r["pixels_sha256"]: r["part"] for r in manifest.records(Path("again"))} == before


def test_copies_of_a_picture_land_in_one_part_whatever_they_are_called_and_however_coded() -> None:
    pixels = decode(SOURCE / "class0/003.png").pixels
    (SOURCE / "class0/copy.bmp").write_bytes(saved(pixels, "BMP"))
    (SOURCE / "class2/copy.webp").write_bytes(saved(pixels, "WEBP", lossless=True))
    for seed in range(8):
        split.run(settings(seed=seed, output=Path(f"s{seed}")))
        records = manifest.records(Path(f"s{seed}"))
        assert len({r["part"] for r in records if r["pixels_sha256"] == pixels_sha256(pixels)}) == 1
    m = manifest.read(Path("s0"))
    assert m.counts["copies"] == 2 and any("2 images are exact copies" in w for w in m.warnings)
    assert any("1 pictures lie in more than one class" in w for w in m.warnings)


def test_a_flat_folder_gives_flat_parts_that_are_known_as_parts() -> None:
    for number, path in enumerate(sorted(SOURCE.rglob("*.png"))):
        path.rename(SOURCE / f"{number}.png")
    for name in ("class0", "class1", "class2"):
        (SOURCE / name).rmdir()
    out = split.run(settings())
    assert len(listed(out)["train"]) == 39 and not any(p.is_dir() for p in (out / "train").iterdir())
    assert imagefolder.parts(out) == (out / "train", out / "test", out / "val")
    assert manifest.read(out).next == "ue-audit protect --method cp data/train"
    assert manifest.verify(out, chain=True).problems == []


def test_parts_that_the_owner_made_are_kept() -> None:
    SOURCE.rename("train")
    SOURCE.mkdir()
    Path("train").rename(SOURCE / "train")
    photos(SOURCE / "test", each=5, seed=7)
    photos(SOURCE / "raw", classes=1, each=9, seed=8)
    out = split.run(SplitSettings(source=SOURCE, output=OUT))
    assert {part: len(paths) for part, paths in listed(out).items()} == {"train": 57, "val": 3, "test": 15, "raw": 9}
    assert listed(out)["test"] == sorted(p.relative_to(SOURCE / "test").as_posix() for p in SOURCE.glob("test/*/*"))
    assert manifest.read(out).notes["kept"] == ["raw", "test"]
    assert manifest.verify(out, chain=True).problems == []
    with pytest.raises(UsageError, match="has its own test images"):
        split.run(settings(test_share="10%", output=Path("other")))


def test_what_two_parts_of_the_owner_share_is_taken_once() -> None:
    """test before train before raw: a model must not have seen its test images, and a prior not the protected ones."""
    train, test, raw = (decode(SOURCE / f"class{k}/000.png").pixels for k in range(3))
    photos(Path("set/train"), each=10, seed=1)
    for part, name, pixels in [
        ("train", "class0/a", train), ("train", "class0/b", test), ("test", "class1/c", test), ("raw", "d", train),
        ("raw", "e", raw),
    ]:  # fmt: skip
        place = Path("set") / part / f"{name}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(saved(pixels))
    out = split.run(settings(source=Path("set")))
    paths = {
        path for part, found in listed(out).items() for path in found if path.partition("/")[2] in ("a.png", "b.png")
    }
    assert paths == {"class0/a.png"} and listed(out)["test"] == ["class1/c.png"] and listed(out)["raw"] == ["e.png"]
    m = manifest.read(out)
    assert m.counts["left_out"] == 2 and any("2 images were left out" in w for w in m.warnings)
    assert manifest.verify(out, chain=True).problems == []


def test_classes_too_small_for_a_test_image_are_named() -> None:
    (SOURCE / "lone").mkdir()
    (SOURCE / "lone/1.png").write_bytes(saved(noise(5)))
    m = manifest.read(split.run(settings()))
    assert "test has no image of 1 of 4 classes: lone" in m.warnings and (OUT / "train/lone/1.png").exists()


# -- refusals ------------------------------------------------------------------------------------------------------


def test_too_few_images_say_which_part_would_be_empty() -> None:
    for path in sorted(SOURCE.rglob("*.png"))[1:]:
        path.unlink()
    with pytest.raises(UsageError) as caught:
        split.run(settings())
    assert "1 images are too few, val and test and raw would be empty" in caught.value.message
    assert caught.value.hint == "give it more (--val 40%) or nothing (--val 0)" and not OUT.exists()


@pytest.mark.parametrize("shares", [["--raw", "90%"], ["--raw", "100%"], ["--test", "-1"], ["--val", "x"]])
def test_shares_that_leave_nothing_to_train(shares: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["split", *shares, *(["--test", "10%"] if "--test" not in shares else []), str(SOURCE)]
    assert cli.main(words) == 2 and not Path("photos.split").exists()


def test_bad_files_are_all_listed_before_anything_is_written() -> None:
    (SOURCE / "class0/000.png").write_bytes(b"")
    (SOURCE / "class1/notes.txt").write_text("x")
    with pytest.raises(InputRefused) as caught:
        split.run(settings())
    assert [line.split(":")[0] for line in caught.value.details] == ["class0/000.png", "class1/notes.txt"]
    assert not OUT.exists()
    m = manifest.read(split.run(settings(on_bad="skip", max_bad="10%")))
    assert (m.counts["seen"], m.counts["taken"], m.counts["refused"]) == (61, 59, 2)
    assert manifest.verify(OUT, chain=True).problems == []


def test_an_output_inside_its_source_and_an_output_as_source_are_refused() -> None:
    for wrong in ({"output": SOURCE / "data"}, {"output": SOURCE}):
        with pytest.raises(UsageError, match="overlap"):
            split.run(settings(**wrong))
    split.run(settings())
    with pytest.raises(IntegrityError, match="not split again"):
        split.run(settings(source=OUT, output=Path("twice")))


def test_other_shares_in_the_same_place_are_refused_and_the_same_are_up_to_date() -> None:
    split.run(settings())
    before = contents(OUT)
    split.run(settings())
    assert contents(OUT) == before
    with pytest.raises(UsageError) as caught:
        split.run(settings(raw_share="30%"))
    assert any("shares" in line for line in caught.value.details)
    split.run(settings(raw_share="30%", fresh=True))
    assert len(listed()["raw"]) == 18


def test_a_file_that_changes_meanwhile_is_an_integrity_error(monkeypatch: pytest.MonkeyPatch) -> None:
    original = shards.Work.open.__func__

    def opened(cls, *arguments, **options):
        (SOURCE / "class0/000.png").write_bytes(saved(noise(9)))
        return original(cls, *arguments, **options)

    monkeypatch.setattr(shards.Work, "open", classmethod(opened))
    with pytest.raises(IntegrityError, match="class0/000.png has changed"):
        split.run(settings())


# -- the stage -----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="forks and signals")
def test_killed_anywhere_and_run_again_is_the_unbroken_run(monkeypatch: pytest.MonkeyPatch, no_sync: None) -> None:
    monkeypatch.setattr(split, "SHARD_FILES", 15)
    count = len(changes(lambda: split.run(settings())))
    unbroken = contents(OUT)
    for k, was_killed in killed_runs(lambda: split.run(settings()), range(1, count + 1, 7), [OUT]):
        split.run(settings())
        assert was_killed and manifest.verify(OUT).problems == []
        assert same_but_for_run_details(contents(OUT), unbroken), f"killed at change {k} of {count}"
        assert not any(part.exists() for part in beside(OUT)[1:])


def test_a_dry_run_says_the_parts_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["split", "--dry-run", str(SOURCE)]) == 0
    assert "train 39, val 3, test 6, raw 12" in capsys.readouterr().out and not Path("photos.split").exists()


def test_the_next_command_runs_as_it_is_pasted() -> None:
    shutil.copytree(SOURCE, "wide")
    for number, path in enumerate(sorted(Path("wide").rglob("*.png"))):
        path.write_bytes(saved(noise(number, 30, 20)))
    assert manifest.read(split.run(settings())).next == "ue-audit protect data"
    other = split.run(settings(source=Path("wide"), output=Path("other")))
    assert manifest.read(other).next == "ue-audit protect --size 20 other"
    out = protect.run(ProtectSettings(source=other, method="ar", size=20))
    assert (
        manifest.test_of(out).resolve() == (other / "test").resolve()
        and manifest.verify(out, chain=True).problems == []
    )


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["split", "--json", "--val", "0", str(SOURCE)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["summary"] == {"train images": 42, "val images": 0, "test images": 6, "raw images": 12}
    assert not (Path("photos.split") / "val").exists() and found["warnings"] == []


def test_no_absolute_path_is_kept_and_the_next_command_is_for_where_one_is(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir("/")
    assert cli.main(["split", "-o", str(here / "my data"), str(here / SOURCE)]) == 0
    assert str(here).encode() not in b"".join(contents(here / "my data").values())
    assert f"next: ue-audit protect '{here / 'my data'}'" in capsys.readouterr().out


# -- near duplicates -----------------------------------------------------------------------------------------------


def scene(seed: int, size: int = 48) -> Image.Image:
    """A picture of soft blobs, as different from another seed's as photos are."""
    return Image.fromarray(noise(seed, 6)).resize((size, size), Image.Resampling.BICUBIC)


def test_resized_compressed_and_mirrored_copies_land_in_one_part() -> None:
    folder = Path("scenes/one")
    folder.mkdir(parents=True)
    for number in range(40):
        scene(number).save(folder / f"{number:02d}.png")
    for number in range(6):
        scene(number).resize((30, 30)).save(folder / f"{number:02d} small.png")
        scene(number).save(folder / f"{number:02d} web.jpg", quality=60)
        scene(number).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / f"{number:02d} turned.png")
    for seed in range(4):
        out = split.run(settings(source=Path("scenes"), seed=seed, output=Path(f"n{seed}"), test_share="25%"))
        parts = {Path(record["path"]).name: record["part"] for record in manifest.records(out)}
        for number in range(6):
            names = (
                f"{number:02d}.png",
                f"{number:02d} small.png",
                f"{number:02d} web.jpg",
                f"{number:02d} turned.png",
            )
            assert len({parts[name] for name in names}) == 1, names
    m = manifest.read(out)
    assert (m.counts["copies"], m.counts["alike"], m.counts["families"]) == (0, 18, 0)
    assert any(warning.startswith("18 images look like others") for warning in m.warnings)


def test_a_set_of_nothing_but_alike_pictures_is_split_all_the_same() -> None:
    """Otherwise one chain of pairs would put all of it into train."""
    folder = Path("scans/chest")
    folder.mkdir(parents=True)
    base = np.asarray(scene(0)).astype(int)
    for number in range(60):
        pixels = np.clip(base + (noise(number, 48) % 21).astype(int) - 10, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    m = manifest.read(split.run(settings(source=Path("scans"))))
    assert [m.counts[part] for part in PARTS] == [39, 3, 6, 12] and m.counts["families"] == 60
    assert any(warning.startswith("60 images look so much like each other") for warning in m.warnings)


def test_between_parts_that_the_owner_made_near_copies_are_only_told() -> None:
    for part, numbers in (("train", range(20)), ("test", range(18, 24))):
        for number in numbers:
            place = Path("own") / part / "one" / f"{number}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            scene(number).save(place, quality=95 if part == "train" else 50)
    m = manifest.read(split.run(settings(source=Path("own"), raw_share=0, val_share=0)))
    assert (m.counts["train"], m.counts["test"], m.counts["parted"], m.counts["left_out"]) == (20, 6, 2, 0)
    assert "2 pairs of images look alike and lie in two parts that the source has" in m.warnings
