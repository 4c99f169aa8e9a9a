"""Every damage is found, and nothing whole is called damaged."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_manifest import child, prior
from trees import brighter, contents, image_tree, noise, protect, saved

from ue_audit import digests, imagefolder, manifest, shards, statement
from ue_audit.errors import UsageError
from ue_audit.manifest import MANIFEST, RECORDS, SUMS, verify

pytestmark = pytest.mark.usefixtures("no_sync")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    image_tree(Path("data/train"))
    image_tree(Path("data/test"), each=1)
    protect(Path("data/train"), Path("out"))
    return tmp_path


def problems(path: str = "out", chain: bool = False) -> list[str]:
    return [str(problem) for problem in verify(Path(path), chain).problems]


# -- whole -------------------------------------------------------------------------------------------------


def test_no_false_alarm_on_a_hundred_clean_trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    dice = random.Random(0)
    for number in range(100):
        source = image_tree(Path(f"{number}/train"), tuple("abcde"[: dice.randint(1, 5)]), dice.randint(1, 4))
        output = protect(source, Path(f"{number}.out"), dice.randint(0, 8), dice.randint(1, 9))
        checked = verify(output, chain=True)
        assert checked.problems == [] and checked.checked == len(contents(output)) - 1
        shutil.rmtree(output)


def test_whole_generations(place: Path) -> None:
    child(Path("out"), Path("out.jcdp"))
    image_tree(Path("raw/any"))
    prior(Path("raw"), Path("prior.ckpt"))
    assert problems("out.jcdp", chain=True) == problems("prior.ckpt", chain=True) == []


def test_other_files_in_the_owner_s_folder_do_not_matter(place: Path) -> None:
    Path("data/train/a/new.png").write_bytes(saved(noise(5)))
    assert problems(chain=True) == []


# -- bits --------------------------------------------------------------------------------------------------


def test_a_thousand_flipped_bits_are_all_found(place: Path) -> None:
    dice = random.Random(0)
    files = [path for path in Path("out").rglob("*") if path.is_file()]
    own = [Path("out") / name for name in (MANIFEST, RECORDS, SUMS)]
    found = 0
    for number in range(1000):
        path = dice.choice(own if number % 2 else files)
        whole = path.read_bytes()
        at, bit = dice.randrange(len(whole)), dice.randrange(8)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        found += bool(problems())
        path.write_bytes(whole)
    print(f"\n{found} of 1000 flipped bits found")
    assert found == 1000 and problems() == []


# -- edits -------------------------------------------------------------------------------------------------


def swap(one: str, two: str) -> None:
    first, second = Path(one).read_bytes(), Path(two).read_bytes()
    Path(one).write_bytes(second)
    Path(two).write_bytes(first)


def swap_lines(name: str) -> None:
    lines = Path("out", name).read_bytes().splitlines(keepends=True)
    Path("out", name).write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))


def edit(name: str, change: Callable[[bytes], bytes]) -> None:
    Path("out", name).write_bytes(change(Path("out", name).read_bytes()))


def drop_image_everywhere() -> None:
    """An image, its record and its line in the sums: only the manifest still knows of it."""
    Path("out/a/0.png").unlink()
    for name in (RECORDS, SUMS):
        edit(name, lambda data: b"".join(line for line in data.splitlines(keepends=True) if b"a/0.png" not in line))


def redo_sums() -> None:
    """Another image, with sums that agree."""
    Path("out/a/0.png").write_bytes(saved(noise(77)))
    pairs = [(str(p.relative_to("out")), manifest.file_sha256(p)) for p in Path("out").rglob("*") if p.is_file()]
    Path("out", SUMS).write_bytes(digests.sums(pair for pair in pairs if pair[0] != SUMS))


EDITS: dict[str, tuple[Callable[[], object], str]] = {
    "image deleted": (lambda: Path("out/a/0.png").unlink(), "a/0.png: is missing"),
    "image added": (lambda: Path("out/a/9.png").write_bytes(saved(noise(1))), "a/9.png: is an extra file"),
    "image copied": (lambda: shutil.copy("out/a/0.png", "out/a/9.png"), "a/9.png: is an extra file"),
    "image renamed": (lambda: Path("out/a/0.png").rename("out/a/9.png"), "a/0.png: is missing"),
    "image moved to another class": (lambda: Path("out/a/0.png").rename("out/b/9.png"), "b/9.png: is an extra file"),
    "images swapped": (lambda: swap("out/a/0.png", "out/a/1.png"), "a/0.png: is not the file its record"),
    "images swapped between classes": (lambda: swap("out/a/0.png", "out/b/0.png"), "b/0.png: is not the file"),
    "classes swapped": (
        lambda: [Path(x).rename(y) for x, y in (("out/a", "out/c"), ("out/b", "out/a"), ("out/c", "out/b"))],
        "a/0.png: is not the file",
    ),
    "class renamed": (lambda: Path("out/a").rename("out/c"), "c: is an extra folder"),
    "class deleted": (lambda: shutil.rmtree("out/a"), "a/0.png: is missing"),
    "image emptied": (lambda: Path("out/a/0.png").write_bytes(b""), "a/0.png: is not the file"),
    "image written anew with the same pixels": (
        lambda: Path("out/a/0.png").write_bytes(saved(brighter(noise(0), 3), compress_level=0)),
        "a/0.png: is not the file its record was written for",
    ),
    "image replaced by a link to a copy": (
        lambda: [Path("out/a/0.png").rename("copy.png"), Path("out/a/0.png").symlink_to("../../copy.png")],
        "a/0.png: is a link",
    ),
    "image replaced by a folder": (
        lambda: [Path("out/a/0.png").unlink(), Path("out/a/0.png").mkdir()],
        "a/0.png: is an extra folder",
    ),
    "file added at the root": (lambda: Path("out/notes.txt").write_text("x"), "notes.txt: is an extra file"),
    "hidden file added": (lambda: Path("out/a/.x").write_text("x"), "a/.x: is an extra file"),
    "empty folder added": (lambda: Path("out/c").mkdir(), "c: is an extra folder"),
    "hidden folder added": (lambda: Path("out/.git").mkdir(), ".git: is an extra folder"),
    "pipe added": (lambda: os.mkfifo("out/a/pipe"), "a/pipe: is an extra file"),
    "link to a folder added": (lambda: Path("out/c").symlink_to("a"), "c: is a link"),
    "odd name added": (lambda: Path("out/a/\x1b[31m\n.png").write_text(""), "a/\\x1b[31m\\n.png: is an extra file"),
    "undecodable name added": (
        lambda: Path(os.fsdecode(b"out/a/\xff.png")).write_text(""),
        "a/\\xff.png: is an extra file",
    ),
    "journal added": (lambda: Path("out/ue-audit.journal").write_text(""), "ue-audit.journal: is an extra file"),
    "records deleted": (lambda: Path("out", RECORDS).unlink(), f"{RECORDS}: is missing"),
    "records emptied": (lambda: Path("out", RECORDS).write_bytes(b""), f"{RECORDS}: was changed"),
    "records swapped": (lambda: swap_lines(RECORDS), f"{RECORDS}: was changed"),
    "record edited": (
        lambda: edit(RECORDS, lambda data: data.replace(b'"label":"a"', b'"label":"b"', 1)),
        f"{RECORDS}: was changed",
    ),
    "records no JSON": (lambda: Path("out", RECORDS).write_bytes(b"[1]\n\xff"), f"{RECORDS}: is damaged"),
    "sums deleted": (lambda: Path("out", SUMS).unlink(), f"{SUMS}: is missing"),
    "sums emptied": (lambda: Path("out", SUMS).write_bytes(b""), f"{SUMS}: was changed"),
    "sums swapped": (lambda: swap_lines(SUMS), f"{SUMS}: was changed"),
    "sums doubled": (lambda: edit(SUMS, lambda data: data + data.splitlines(keepends=True)[0]), f"{SUMS}: was changed"),
    "sums with carriage returns": (lambda: edit(SUMS, lambda data: data.replace(b"\n", b"\r\n")), f"{SUMS}: was"),
    "sums no text": (lambda: Path("out", SUMS).write_bytes(b"\xff\xfe"), f"{SUMS}: was changed"),
    "sums without final newline": (lambda: edit(SUMS, lambda data: data[:-1]), f"{SUMS}: was changed"),
    "manifest deleted": (lambda: Path("out", MANIFEST).unlink(), f"{MANIFEST}: "),
    "manifest emptied": (lambda: Path("out", MANIFEST).write_bytes(b""), f"{MANIFEST}: "),
    "manifest reformatted": (lambda: edit(MANIFEST, lambda data: data.replace(b"  ", b" ")), f"{MANIFEST}: "),
    "manifest of another output": (
        lambda: shutil.copy(protect(Path("data/train"), Path("other"), levels=1) / MANIFEST, "out"),
        f"{MANIFEST}: was changed",
    ),
    "an image gone with its record and sum": (drop_image_everywhere, f"{RECORDS}: was changed"),
    "an image exchanged and its sum redone": (redo_sums, "a/0.png: is not the file its record was written for"),
}


@pytest.mark.parametrize("kind", EDITS)
def test_every_kind_of_edit_is_found_and_named(place: Path, kind: str) -> None:
    change, expected = EDITS[kind]
    change()
    found = problems()
    assert any(expected in line for line in found), found
    assert all(line.isprintable() for line in found)


def test_edits_with_everything_redone_but_the_manifest_are_found(place: Path) -> None:
    """Records and sums made anew for another image: the manifest names other records and another tree."""
    image = imagefolder.decode(imagefolder.encode_png(noise(77)))
    Path("out/a/0.png").write_bytes(imagefolder.encode_png(noise(77)))
    records = manifest.records(Path("out"))
    records[0] |= {"sha256": image.sha256, "pixels_sha256": imagefolder.pixels_sha256(image.pixels)}
    Path("out", RECORDS).write_bytes(digests.record_lines(records))
    pairs = [(str(p.relative_to("out")), manifest.file_sha256(p)) for p in Path("out").rglob("*") if p.is_file()]
    Path("out", SUMS).write_bytes(digests.sums(pair for pair in pairs if pair[0] != SUMS))
    assert problems() == [f"{MANIFEST}: names other files than these"]


def test_the_journal_of_an_interrupted_end_is_named_with_the_remedy(place: Path) -> None:
    Path("out/ue-audit.journal").write_text("")
    assert problems() == ["ue-audit.journal: is an extra file; run the command again to end its work"]


@pytest.mark.parametrize("path", ["data", "nothing", "data/train/a/0.png"])
def test_what_is_not_ours_is_a_usage_error(place: Path, path: str) -> None:
    with pytest.raises(UsageError):
        verify(Path(path))


def test_unfinished_work_is_a_problem(place: Path) -> None:
    shards.Work.open(Path("begun"), {}).commit("0", {}, [])
    assert "unfinished" in problems("begun")[0]


# -- records that lie ----------------------------------------------------------------------------------------


def sealed(output: Path, records: list[dict], files: dict[str, bytes], **fields: object) -> Path:
    work = shards.Work.open(output, {"name": output.name})
    work.commit("0", files, records)
    source = manifest.dependency("source", Path("data/train"), output=output, tree="0" * 64)
    return work.seal(manifest.statement(stage="protect", method="x", dependencies=[source], **fields))


def honest(levels: int) -> tuple[dict, dict[str, bytes]]:
    """The record and file of a/0.png, `levels` brighter; it has room up to 8."""
    x = imagefolder.decode(Path("data/train/a/0.png"))
    y = imagefolder.encode_png(brighter(x.pixels, levels))
    image = imagefolder.decode(y)
    return {
        "path": "a/0.png",
        "source": "a/0.png",
        "source_sha256": x.sha256,
        "sha256": image.sha256,
        "pixels_sha256": imagefolder.pixels_sha256(image.pixels),
        "width": 8,
        "height": 8,
        "linf": levels,
    }, {"a/0.png": y}


@pytest.mark.parametrize(
    ("lie", "expected"),
    [
        ({"pixels_sha256": "0" * 64}, "its pixels or size are not those of its record"),
        ({"width": 9}, "its pixels or size are not those of its record"),
        ({"sha256": "0" * 64}, "is not the file its record was written for"),
        ({"path": "a/1.png"}, "a/1.png: is missing"),
    ],
)
def test_a_record_that_does_not_fit_its_file(place: Path, lie: dict, expected: str) -> None:
    record, files = honest(3)
    sealed(Path("lying"), [record | lie], files)
    assert any(expected in line for line in problems("lying"))


@pytest.mark.parametrize(
    ("levels", "budget", "expected"),
    [
        (8, {"norm": "linf", "limit": 8 / 255}, ""),
        (9, {"norm": "linf", "limit": 8 / 255}, "changed by an linf of 9; the budget is 8"),
        (3, {"norm": "l2", "limit": 0.1}, "changed by an l2 of"),
        (3, {"norm": "l0", "limit": 63}, "changed by an l0 of 64; the budget is 63"),
        (3, {"norm": "l0", "limit": 64}, ""),
        (99, {"norm": "none"}, ""),
    ],
)
def test_budgets_are_measured_from_pixels(place: Path, levels: int, budget: dict, expected: str) -> None:
    Path("data/train/a/0.png").write_bytes(saved(np.full((8, 8, 3), 50, np.uint8)))
    record, files = honest(levels)
    source = {"source": manifest.source_digest(imagefolder.scan(Path("data/train")))}
    sealed(Path("measured"), [record], files, budget=budget, notes=source)
    found = [line for line in problems("measured", chain=True) if "[source]" not in line]
    assert [expected in line for line in found] == ([True] if expected else [])
    assert problems("measured") == []  # without the chain the source is not looked at


def test_a_recorded_distance_is_repeated(place: Path) -> None:
    record, files = honest(3)
    sealed(Path("lying"), [record | {"linf": 2}], files, budget={"norm": "linf", "limit": 8 / 255})
    assert any("its record says linf 2, measured 3" in line for line in problems("lying", chain=True))


@pytest.mark.parametrize("resized", [False, True])
def test_an_output_of_another_size_is_compared_with_the_resized_source(place: Path, resized: bool) -> None:
    x = imagefolder.decode(Path("data/train/a/0.png"))
    small = imagefolder.resized(x.pixels, 4, 4)
    png = imagefolder.encode_png(brighter(small, 2))
    image = imagefolder.decode(png)
    record, _ = honest(3)
    record |= {"sha256": image.sha256, "pixels_sha256": imagefolder.pixels_sha256(image.pixels)}
    record |= {"width": 4, "height": 4, "linf": int(np.abs(image.pixels.astype(int) - small).max())}
    settings = {"resize_output": resized}
    sealed(Path("small"), [record], {"a/0.png": png}, budget={"norm": "linf", "limit": 2 / 255}, settings=settings)
    found = [line for line in problems("small", chain=True) if "[source]" not in line]
    assert found == ([] if resized else ["a/0.png: has not the size of its source a/0.png"])


# -- the chain -----------------------------------------------------------------------------------------------


def test_a_changed_source_is_found_in_the_chain_only(place: Path) -> None:
    Path("data/train/a/0.png").write_bytes(saved(noise(99)))
    assert problems() == []
    assert problems(chain=True) == [
        "a/0.png: its source a/0.png has changed",
        "[source]: is not what this output was made from: data/train has changed",
    ]


def test_changed_test_images_are_found(place: Path) -> None:
    Path("data/test/a/0.png").write_bytes(saved(noise(99)))
    assert problems(chain=True) == ["[test]: is not what this output was made from: data/test has changed"]


def test_a_missing_parent_is_found(place: Path) -> None:
    shutil.rmtree("data/test")
    Path("data/train/a/1.png").unlink()
    assert problems(chain=True)[-1] == "[test]: is not at data/test"
    assert any(line.startswith("a/1.png: its source") for line in problems(chain=True))


def test_damage_of_a_parent_is_named_by_the_way_to_it(place: Path) -> None:
    child(Path("out"), Path("out.jcdp"))
    Path("out/a/0.png").write_bytes(saved(noise(99)))
    assert problems("out.jcdp") == []
    found = problems("out.jcdp", chain=True)
    assert found == ["[protected]/a/0.png: is not the file its record was written for"]


def test_a_parent_made_anew_is_another_parent(place: Path) -> None:
    child(Path("out"), Path("out.jcdp"))
    protect(Path("data/train"), Path("out"), fresh=True)
    assert problems("out.jcdp", chain=True) == []  # the same bytes: the same tree
    protect(Path("data/train"), Path("out"), levels=5, fresh=True)
    assert problems("out.jcdp", chain=True) == ["[protected]: is not what this output was made from: out has changed"]


def test_a_part_of_a_parent_is_enough_if_it_is_the_part_that_was_used(place: Path) -> None:
    """With --limit only some images are taken: their digest is not that of the whole parent."""
    taken = imagefolder.intake(imagefolder.scan(Path("out"), limit=3))
    work = shards.Work.open(Path("part"), {})
    files = {path: imagefolder.encode_png(taken.data.pixels[row]) for row, path in enumerate(taken.outputs())}
    records = [taken.describe(row, path) | {"sha256": taken.sources[row].sha256} for row, path in enumerate(files)]
    work.commit("0", files, records)
    tree = manifest.source_digest(taken.sources)
    parent = manifest.dependency("protected", Path("out"), output=Path("part"), tree=tree)
    work.seal(manifest.statement(stage="purify", method="x", dependencies=[parent]))
    assert problems("part", chain=True) == []
    protect(Path("data/train"), Path("out"), levels=5, fresh=True)
    assert len(problems("part", chain=True)) == 1


def test_a_damaged_prior_is_found(place: Path) -> None:
    image_tree(Path("raw/any"))
    prior(Path("raw"), Path("prior.ckpt"))
    for path in (Path("prior.ckpt"), statement.sidecar(Path("prior.ckpt"))):
        whole = path.read_bytes()
        for at in range(0, len(whole), 7):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
            assert problems("prior.ckpt")
        path.write_bytes(whole)
    assert problems("prior.ckpt") == []
    Path("prior.ckpt").unlink()
    assert problems("prior.ckpt")


# -- size ----------------------------------------------------------------------------------------------------


MEASURE = """
import resource, sys, time
from pathlib import Path
from ue_audit import imagefolder, manifest
start = time.monotonic()
entries = len(imagefolder.scan(Path(sys.argv[1])).entries)
scanned = time.monotonic() - start
found = len(manifest.verify(Path(sys.argv[1])).problems)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(entries, found, scanned, time.monotonic() - start, peak)
"""


@pytest.mark.skipif(not os.environ.get("UE_AUDIT_SLOW"), reason="set UE_AUDIT_SLOW=1: 60,000 files, about a minute")
def test_sixty_thousand_files_in_a_minute_and_half_a_gigabyte(tmp_path: Path) -> None:
    """In a process of its own, so that the peak of its memory is that of scanning and verifying."""
    names = [f"{number % 100:03d}/{number:05d}.png" for number in range(60_000)]
    pixels = [noise(seed, 32) for seed in range(64)]
    kinds = [(imagefolder.encode_png(x), imagefolder.pixels_sha256(x)) for x in pixels]
    work = shards.Work.open(tmp_path / "out", {})
    for start in range(0, len(names), 512):
        files, records = {}, []
        for number, name in enumerate(names[start : start + 512], start):
            data, pixels_sha256 = kinds[number % 64]
            files[name] = data
            found = {"path": name, "label": name[:3], "source": name, "source_sha256": "0" * 64, "actions": []}
            found |= {"sha256": imagefolder.decode(data).sha256, "pixels_sha256": pixels_sha256}
            records.append(found | {"width": 32, "height": 32, "linf": 8, "l2": 1.234567, "psnr": 30.123456})
        work.commit(str(start), files, records)
    work.seal(manifest.statement(stage="protect", method="x"))
    root = str(Path(__file__).resolve().parents[1])
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "out")],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    entries, found, scanned, seconds, peak = (float(word) for word in measured.stdout.split())
    print(f"\n{entries:.0f} files: scan {scanned:.1f} s, scan and verify {seconds:.1f} s, peak {peak:.0f} MB")
    assert entries == 60_000 and found == 0 and seconds < 60 and peak < 500
