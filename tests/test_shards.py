"""Atomic work, resume, refusal, locks: nothing committed is lost, whatever ends the process."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from trees import contents, image_tree, protect

from ue_audit import manifest, shards
from ue_audit.errors import UsageError

pytestmark = [
    pytest.mark.usefixtures("no_sync"),
    pytest.mark.skipif(os.name != "posix", reason="forks and signals"),
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that holds data/train and data/test."""
    monkeypatch.chdir(tmp_path)
    image_tree(Path("data/train"))
    image_tree(Path("data/test"), each=1)
    return tmp_path


def run() -> Path:
    with shards.lock(Path("out")):
        return protect(Path("data/train"), Path("out"))


def without_run_details(data: bytes) -> dict:
    whole = json.loads(data)
    del whole["predicate"]["runDetails"]
    return whole


def same_but_for_run_details(one: dict[str, bytes], two: dict[str, bytes]) -> bool:
    """Images, records and sums equal byte for byte, the manifest but for runDetails (and so but for its own sum)."""
    plain = [{k: v for k, v in tree.items() if k not in (manifest.MANIFEST, manifest.SUMS)} for tree in (one, two)]
    lines = [
        [line for line in tree[manifest.SUMS].splitlines() if not line.endswith(manifest.MANIFEST.encode())]
        for tree in (one, two)
    ]
    manifests = [without_run_details(tree[manifest.MANIFEST]) for tree in (one, two)]
    return plain[0] == plain[1] and lines[0] == lines[1] and manifests[0] == manifests[1]


# -- shards ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "rows"), [(32, 512), (224, 10), (1024, 1)])
def test_a_shard_is_about_half_a_million_pixels(size: int, rows: int) -> None:
    listed = shards.plan(1000, size * size)
    assert len(listed[0]) == rows
    assert [row for part in listed for row in part] == list(range(1000))


def test_no_images_no_shards() -> None:
    assert shards.plan(0, 1024) == []


# -- one run --------------------------------------------------------------------------------------------


def test_a_sealed_output_holds_images_and_root_files_and_nothing_else(place: Path) -> None:
    output = run()
    names = {"ue-audit.json", "ue-audit.records.jsonl", "ue-audit.sums"}
    assert set(contents(output)) == names | {f"{c}/{i}.png" for c in "ab" for i in range(4)}
    assert sorted(path.name for path in place.iterdir()) == ["data", "out"]


def test_coreutils_agree_with_the_sums(place: Path) -> None:
    checked = subprocess.run(["sha256sum", "--strict", "-c", manifest.SUMS], cwd=run(), capture_output=True, text=True)
    assert checked.returncode == 0 and checked.stdout.count(": OK") == 10


def test_coreutils_compute_the_same_tree_digest(place: Path) -> None:
    """dirHash1 in one shell line, as the in-toto specification gives it."""
    line = "find . -name '*.png' -type f | cut -c3- | LC_ALL=C sort | xargs sha256sum | sha256sum | cut -d' ' -f1"
    shell = subprocess.run(["sh", "-c", line], cwd=run(), capture_output=True, text=True)
    assert shell.stdout.strip() == manifest.read(Path("out")).tree


def test_two_runs_differ_only_in_run_details(place: Path) -> None:
    first = contents(run())
    second = contents(protect(Path("data/train"), Path("other")))
    assert same_but_for_run_details(first, second)
    assert first[manifest.MANIFEST] != second[manifest.MANIFEST]


def test_the_same_again_is_complete_and_changes_nothing(place: Path) -> None:
    before = contents(run())
    assert shards.Work.open(Path("out"), manifest.read(Path("out")).parameters).complete
    run()
    assert contents(Path("out")) == before


def test_other_parameters_are_refused_with_both_values(place: Path) -> None:
    run()
    with pytest.raises(UsageError) as caught:
        protect(Path("data/train"), Path("out"), levels=4)
    assert caught.value.details == ("levels: 3 there, 4 now",)
    assert "--fresh" in caught.value.hint


def test_nested_parameters_are_named_by_dots(tmp_path: Path) -> None:
    shards.Work.open(tmp_path / "out", {"config": {"eps": "8/255", "steps": 5}})
    with pytest.raises(UsageError) as caught:
        shards.Work.open(tmp_path / "out", {"config": {"eps": "4/255", "steps": 5}, "seed": 1})
    assert caught.value.details == (
        "config.eps: '8/255' there, '4/255' now",
        "seed: 'absent' there, 1 now",
    )


def test_fresh_starts_over(place: Path) -> None:
    run()
    protect(Path("data/train"), Path("out"), levels=4, fresh=True)
    assert manifest.read(Path("out")).config == {"levels": 4}
    assert manifest.verify(Path("out"), chain=True).problems == []
    assert sorted(path.name for path in place.iterdir()) == ["data", "out"]


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_that_is_not_ours_is_left_alone(place: Path, fresh: bool) -> None:
    Path("out").mkdir()
    Path("out/thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="was not made by ue-audit"):
        protect(Path("data/train"), Path("out"), fresh=fresh)
    assert contents(Path("out")) == {"thesis.tex": b"years of work"}


def test_a_work_folder_that_is_not_ours_is_left_alone(place: Path) -> None:
    Path("out.work").mkdir()
    Path("out.work/thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="in the way"):
        run()
    assert contents(Path("out.work")) == {"thesis.tex": b"years of work"}


def test_a_file_in_the_place_of_the_output_is_refused(place: Path) -> None:
    Path("out").write_text("a file")
    with pytest.raises(UsageError, match="found a file"):
        run()


@pytest.mark.parametrize("path", ["../escape.png", "/tmp/escape.png", "ue-audit.json", "a/../../escape.png"])
def test_a_stage_cannot_write_outside_its_output(tmp_path: Path, path: str) -> None:
    work = shards.Work.open(tmp_path / "out", {})
    with pytest.raises(ValueError, match="cannot be written"):
        work.commit("0", {path: b"x"}, [])


@pytest.mark.parametrize(("output", "source"), [("data/out", "data"), ("data", "data"), ("data", "data/train")])
def test_output_and_input_must_not_overlap(place: Path, output: str, source: str) -> None:
    with pytest.raises(UsageError, match="overlap"):
        shards.refuse_overlap(Path(output), [Path(source)])
    shards.refuse_overlap(Path("data.emn"), [Path("data")])


def test_time_that_was_saved_between_shards_counts_after_a_kill(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    work = shards.Work.open(tmp_path / "out", {"seed": 0})
    now[0] += 60
    work.tick()
    again = shards.Work.open(tmp_path / "out", {"seed": 0})
    assert again.elapsed() == 60
    now[0] += 10
    again.commit("0", {}, [{"path": "a"}])
    now[0] += 5
    assert shards.Work.open(tmp_path / "out", {"seed": 0}).elapsed() == 70
