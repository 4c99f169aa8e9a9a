"""Every kind of edit to an output is found and named, and so are records and budgets that do not hold."""

import os
import shutil
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from trees import brighter, image_tree, noise, protect, saved

from ue_audit import digests, imagefolder, manifest, shards
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


# -- edits ----------------------------------------------------------------------------------------------


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


def take_names_apart(root: str) -> None:
    """As an old disk of macOS does with every name."""
    for path in sorted(Path(root).rglob("*"), reverse=True):
        path.rename(path.with_name(unicodedata.normalize("NFD", path.name)))


def test_names_in_another_unicode_form_are_the_same_names(place: Path) -> None:
    (place / "data/train/a").rename(place / "data/train/caf\u00e9")
    (place / "data/train/caf\u00e9/0.png").rename(place / "data/train/caf\u00e9/\u00fc.png")
    protect(Path("data/train"), Path("mine"))
    take_names_apart("mine")
    assert (place / "mine/cafe\u0301/u\u0308.png").exists() and problems("mine") == []
    sources = imagefolder.intake(imagefolder.scan(Path("mine"))).sources
    manifest.check_taken(Path("mine"), sources)
    shutil.copy("mine/cafe\u0301/u\u0308.png", "mine/cafe\u0301/\u00fc.png")
    assert len(problems("mine")) == 1 and "is an extra file" in problems("mine")[0]


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "a/desktop.ini", "a/.DS_Store", "Icon\r"])
def test_what_a_file_manager_leaves_is_no_edit(name: str, place: Path) -> None:
    Path("out", name).write_bytes(b"x")
    assert problems() == []


@pytest.mark.parametrize("name", ["._0.png", "a/._0.png", "a/.DS_Store.png"])
def test_what_a_loader_could_take_for_an_image_is(name: str, place: Path) -> None:
    Path("out", name).write_bytes(saved(noise(3)))
    assert problems() == [f"{name}: is an extra file"]


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
    "records replaced by a pipe": (
        lambda: [Path("out", RECORDS).unlink(), os.mkfifo(Path("out", RECORDS))],
        f"{RECORDS}: is an extra file",
    ),
    "sums replaced by a pipe": (lambda: [Path("out", SUMS).unlink(), os.mkfifo(Path("out", SUMS))], f"{SUMS}: is "),
    "manifest replaced by a pipe": (
        lambda: [Path("out", MANIFEST).unlink(), os.mkfifo(Path("out", MANIFEST))],
        f"{MANIFEST}: ",
    ),
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


# -- records that lie -----------------------------------------------------------------------------------


def sealed(output: Path, records: list[dict], files: dict[str, bytes], **fields: object) -> Path:
    work = shards.Work.open(output, {"name": output.name})
    work.commit("0", files, records)
    source = manifest.dependency("source", Path("data/train"), output=output, digest="0" * 64)
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
    "lie", [{"path": 3}, {"sha256": []}, {"width": "8"}, {"source": {}}, {"linf": "3"}, {"source": "../../secret.png"}]
)
def test_records_of_a_wrong_kind_are_problems_and_no_crash(place: Path, lie: dict) -> None:
    record, files = honest(3)
    sealed(Path("lying"), [record | lie], files, budget={"norm": "linf", "limit": 8 / 255})
    assert problems("lying", chain=True)


@pytest.mark.parametrize("denied", ["out/a", "out/a/0.png", f"out/{SUMS}", f"out/{RECORDS}"])
def test_what_may_not_be_read_is_a_problem(place: Path, monkeypatch: pytest.MonkeyPatch, denied: str) -> None:
    def deny(original: Callable) -> Callable:
        def opened(path: Path, *arguments: object, **options: object) -> object:
            if Path(path).resolve() == Path(denied).resolve():
                raise PermissionError(13, "Permission denied")
            return original(path, *arguments, **options)

        return opened

    for owner, name in ((Path, "read_bytes"), (Path, "open"), (os, "scandir")):
        monkeypatch.setattr(owner, name, deny(getattr(owner, name)))
    assert any("Permission denied" in line for line in problems())


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
