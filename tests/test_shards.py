"""Atomic work, resume, refusal, locks: nothing committed is lost, whatever ends the process."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kill import changes, killed, killed_runs, refused
from trees import contents, image_tree, noise, protect, saved

from ue_audit import manifest, shards, storage
from ue_audit.errors import IntegrityError, LockedError, ResourceError, UsageError

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


# -- shards ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "rows"), [(32, 512), (224, 10), (1024, 1)])
def test_a_shard_is_about_half_a_million_pixels(size: int, rows: int) -> None:
    listed = shards.plan(1000, size * size)
    assert len(listed[0]) == rows
    assert [row for part in listed for row in part] == list(range(1000))


def test_no_images_no_shards() -> None:
    assert shards.plan(0, 1024) == []


# -- one run -----------------------------------------------------------------------------------------------


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


# -- killed ------------------------------------------------------------------------------------------------


def test_killed_at_every_change_on_disk_nothing_is_lost(place: Path) -> None:
    """SIGKILL in front of, or in the middle of, every write, rename, sync and removal of a run of two shards."""
    names = changes(run)
    whole = contents(Path("out"))
    committed = 0
    for k, was_killed in killed_runs(run, range(1, len(names) + 1), [Path("out")]):
        assert was_killed, f"point {k} of {len(names)} was not reached"
        begun = Path("out/ue-audit.journal").exists() and not Path("out/ue-audit.json").exists()
        done = committed_shards(Path("out")) if begun else []
        committed += len(done)
        run()
        assert same_but_for_run_details(contents(Path("out")), whole), f"point {k} ({names[k - 1]})"
        assert sorted(path.name for path in place.iterdir()) == ["data", "out"], f"point {k} ({names[k - 1]})"
        assert manifest.verify(Path("out"), chain=True).problems == []
        assert not begun or manifest.read(Path("out")).run.resumed == 1
    print(f"\n{len(names)} kill points, {committed} committed shards found again")
    assert len(names) >= 40 and committed >= 20


def committed_shards(output: Path) -> list[str]:
    """The shards whose line in the journal is whole: those that a resume must not compute again."""
    done: list[str] = []
    lines = (output / manifest.JOURNAL).read_bytes().split(b"\n")
    for line in lines[:-1]:
        value = json.loads(line.partition(b" ")[2]) if line.endswith(b"}") else {}
        done += [value["shard"]] if "shard" in value else []
    return done


def test_a_committed_shard_is_not_computed_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(Path("second"))
    calls: list[str] = []
    original = shards.Work.commit
    monkeypatch.setattr(shards.Work, "commit", lambda self, *a: (calls.append(a[0]), original(self, *a)))
    protect(Path("data/train"), Path("second"))
    assert calls == ["1"]
    assert same_but_for_run_details(contents(Path("second")), contents(run()))


def interrupted(output: Path) -> None:
    """A run that ends while its second shard is written."""
    names = changes(lambda: protect(Path("data/train"), Path("scrap"), fresh=True))
    with pytest.raises(ResourceError), refused(names.index("append") + 4, errno.EIO):
        protect(Path("data/train"), output)


def test_killed_twice_and_more(place: Path) -> None:
    whole = contents(run())
    for k in (6, 3, 9, 4, 12, 5, 20):
        killed(lambda: protect(Path("data/train"), Path("again")), k)
    protect(Path("data/train"), Path("again"))
    assert same_but_for_run_details(contents(Path("again")), whole)


def test_killed_while_starting_over(place: Path) -> None:
    """--fresh on a sealed output, killed everywhere: afterwards it is the old one, whole, or the new one."""

    def fresh() -> Path:
        return protect(Path("data/train"), Path("out"), levels=4, fresh=True)

    protect(Path("data/train"), Path("new"), levels=4)
    whole = contents(Path("new"))
    run()
    names = changes(fresh)
    for k in range(1, len(names) + 1, 1 if os.environ.get("UE_AUDIT_SLOW") else 3):
        protect(Path("data/train"), Path("out"), fresh=True)
        assert killed(fresh, k)
        found = manifest.find(Path("out")) if Path("out/ue-audit.json").exists() else None
        assert found is None or manifest.verify(Path("out")).problems in ([], left_over(Path("out")))
        fresh()
        assert same_but_for_run_details(contents(Path("out")), whole), f"point {k} ({names[k - 1]})"
    assert sorted(path.name for path in place.iterdir()) == ["data", "new", "out"]


def left_over(output: Path) -> list[manifest.Problem]:
    """What verify says of an output that was sealed and not yet swept."""
    return [p for p in manifest.verify(output).problems if p.path == manifest.JOURNAL]


@pytest.mark.parametrize("torn", [b"", b"12", b"0123456789abcdef {\"shard\":", b"\x00" * 4096])
def test_a_torn_last_line_of_the_journal_is_tolerated(place: Path, torn: bytes) -> None:
    whole = contents(run())
    other = Path("other")
    interrupted(other)
    with (other / manifest.JOURNAL).open("ab") as journal:
        journal.write(torn)
    protect(Path("data/train"), other)
    assert same_but_for_run_details(contents(other), whole)


def test_a_damaged_head_of_the_journal_is_an_integrity_error(place: Path) -> None:
    work = shards.Work.open(Path("out"), {"a": 1})
    assert not work.complete
    Path("out/ue-audit.journal").write_bytes(b"nonsense\n")
    with pytest.raises(IntegrityError, match="journal cannot be read"):
        shards.Work.open(Path("out"), {"a": 1})
    assert not shards.Work.open(Path("out"), {"a": 1}, fresh=True).done


@pytest.mark.parametrize("harm", ["delete", "change"])
def test_a_committed_file_that_was_harmed_is_done_anew(place: Path, harm: str) -> None:
    image = saved(noise(1))
    record = {"path": "a/1.png"}
    shards.Work.open(Path("out"), {}).commit("0", {"a/1.png": image}, [record])
    assert shards.Work.open(Path("out"), {}).done == {"0": [record]}
    if harm == "delete":
        Path("out/a/1.png").unlink()
    else:
        Path("out/a/1.png").write_bytes(image[:-1])
    assert shards.Work.open(Path("out"), {}).done == {}


def test_unfinished_work_is_no_input(place: Path) -> None:
    from ue_audit import imagefolder

    shards.Work.open(Path("out"), {}).commit("0", {"a/1.png": saved(noise(1))}, [{"path": "a/1.png"}])
    for use in (imagefolder.scan, manifest.find, manifest.read):
        with pytest.raises(IntegrityError, match="unfinished"):
            use(Path("out"))


# -- the system refuses --------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS])
def test_whatever_change_fails_it_is_a_resource_error_and_can_be_resumed(place: Path, number: int) -> None:
    names = changes(run)
    whole = contents(Path("out"))
    points = range(1, len(names) + 1) if number == errno.ENOSPC else range(1, len(names) + 1, 7)
    for k in points:
        output = Path(f"out{k}")
        with pytest.raises(ResourceError) as caught, refused(k, number):
            protect(Path("data/train"), output)
        assert caught.value.exit_code == 5 and os.strerror(number) in str(caught.value)
        protect(Path("data/train"), output)
        assert same_but_for_run_details(contents(output), whole), f"change {k} ({names[k - 1]})"


def test_a_full_disk_for_real(place: Path) -> None:
    """A file system of 512 KiB, filled by the run: exit code 5, and after making room the rest is done."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        pytest.skip("mounting needs root on Linux")
    small = place / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", small], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        image_tree(Path("big"), each=30, size=32)
        (small / "ballast").write_bytes(b"0" * 330_000)
        with pytest.raises(ResourceError, match="No space left"):
            protect(Path("big"), small / "out")
        (small / "ballast").unlink()
        protect(Path("big"), small / "out", rows=4)
        assert manifest.verify(small / "out", chain=True).problems == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_files_really_reach_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the shortcut of these tests: few files are synced one by one, a shard's in one go."""
    monkeypatch.undo()
    one, all_at_once = [], []
    original, group = storage._sync_one, storage._sync_file_system
    monkeypatch.setattr(storage, "_sync_one", lambda path: (one.append(path.name), original(path)))
    monkeypatch.setattr(storage, "_sync_file_system", lambda path: (all_at_once.append(path.name), group(path))[1])
    work = shards.Work.open(tmp_path / "out", {})
    one.clear()
    work.commit("0", {f"a/{number}.png": b"x" for number in range(20)}, [])
    assert all_at_once == ["ue-audit.drafts"] and one == ["out", "a", "ue-audit.journal"]
    monkeypatch.setattr(storage, "_sync_file_system", lambda path: False)  # another system
    work.commit("1", {f"a/{number}.png": b"x" for number in range(20, 40)}, [])
    assert len(one) == 3 + 20 + 3


def test_write_file_is_whole_or_not_there(place: Path) -> None:
    target = Path("deep/prior.ckpt")
    shards.write_file(target, b"old")
    names = changes(lambda: shards.write_file(target, b"new"))
    for k in range(1, len(names) + 1):
        shards.write_file(target, b"old")
        with pytest.raises(ResourceError), refused(k, errno.ENOSPC):
            shards.write_file(target, b"new")
        assert target.read_bytes() in (b"old", b"new")


# -- locks -------------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from ue_audit import shards
try:
    with shards.lock(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(float(sys.argv[2]))
except shards.storage.LockedError as error:
    print(error.message, flush=True)
    sys.exit(error.exit_code)
"""


def holder(output: Path, seconds: float) -> subprocess.Popen:
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    arguments = [sys.executable, "-c", HOLD, str(output), str(seconds)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)


def test_a_second_process_is_refused_at_once_and_told_by_whom(tmp_path: Path) -> None:
    output = tmp_path / "out"
    first = holder(output, 30)
    try:
        assert first.stdout.readline() == "held\n"
        start = time.monotonic()
        with pytest.raises(LockedError) as caught, shards.lock(output):
            pass
        assert time.monotonic() - start < 1
        assert f"process {first.pid}, started 20" in caught.value.message
        assert caught.value.exit_code == 6
        second = holder(output, 0)
        assert second.wait(30) == 6 and str(first.pid) in second.stdout.read()
    finally:
        first.kill()
        first.wait()
    with shards.lock(output):  # SIGKILL freed it, though its file is still there
        pass
    assert list(tmp_path.iterdir()) == []


def test_of_many_that_start_together_one_works_at_a_time(tmp_path: Path) -> None:
    """Holders come and go and unlink the file: a second one must never get in beside the first."""
    log = tmp_path / "log"
    code = f"""
import sys, time
from pathlib import Path
from ue_audit import shards
from ue_audit.errors import LockedError
end = time.monotonic() + 1.5
while time.monotonic() < end:
    try:
        with shards.lock(Path({str(tmp_path / "out")!r})):
            with open({str(log)!r}, "a") as file:
                file.write("in\\n"); file.flush(); time.sleep(0.001); file.write("out\\n")
    except LockedError:
        time.sleep(0.0005)
"""
    root = Path(__file__).resolve().parents[1]
    many = [
        subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(root)}) for _ in range(4)
    ]
    assert [process.wait(60) for process in many] == [0] * 4
    lines = log.read_text().split()
    assert lines == ["in", "out"] * (len(lines) // 2) and len(lines) > 20


def test_the_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), shards.lock(tmp_path / "out"):
        raise KeyboardInterrupt
    with shards.lock(tmp_path / "out"):
        assert (tmp_path / "out.lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_outlives_a_killed_holder_does_not_keep_the_lock(tmp_path: Path) -> None:
    output = tmp_path / "out"
    child = os.fork()
    if child == 0:
        with shards.lock(output):
            if os.fork() == 0:
                time.sleep(20)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    with shards.lock(output):
        pass
