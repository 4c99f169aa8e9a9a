"""Nothing committed is lost, whatever ends the process or refuses it."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kill import changes, killed, killed_runs, refused
from test_shards import run, same_but_for_run_details
from trees import contents, image_tree, noise, protect, saved

from ue_audit import imagefolder, manifest, shards
from ue_audit.errors import IntegrityError, ResourceError

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


# -- killed ---------------------------------------------------------------------------------------------


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

    shards.Work.open(Path("out"), {}).commit("0", {"a/1.png": saved(noise(1))}, [{"path": "a/1.png"}])
    for use in (imagefolder.scan, manifest.find, manifest.read):
        with pytest.raises(IntegrityError, match="unfinished"):
            use(Path("out"))


# -- the system refuses ---------------------------------------------------------------------------------


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
