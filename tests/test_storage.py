"""Changes on disk are whole or not there; one process works at a time."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import as_on_windows
import pytest
from kill import changes, refused

from ue_audit import shards, storage
from ue_audit.errors import LockedError, ResourceError, UsageError
from ue_audit.statement import statement

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks and signals")


def test_files_really_reach_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few files are synced one by one, a shard's in one go."""
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


def test_write_file_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "prior.ckpt"
    shards.write_file(target, b"old")
    names = changes(lambda: shards.write_file(target, b"new"))
    for k in range(1, len(names) + 1):
        shards.write_file(target, b"old")
        with pytest.raises(ResourceError), refused(k, errno.ENOSPC):
            shards.write_file(target, b"new")
        assert target.read_bytes() in (b"old", b"new")


# -- other systems --------------------------------------------------------------------------------------


def test_a_rename_that_a_scanner_holds_up_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, tries = os.replace, []

    def replace(source: Path, target: Path) -> None:
        tries.append(target)
        if len(tries) % 2:
            raise as_on_windows.refusal(target, as_on_windows.ACCESS)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    work = shards.Work.open(tmp_path / "out", {})
    work.commit("0", {f"a/{number}.png": b"x" for number in range(3)}, [])
    assert len(tries) == 8 and sorted(p.name for p in (tmp_path / "out/a").iterdir()) == ["0.png", "1.png", "2.png"]


def test_elsewhere_a_refused_rename_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def replace(source: Path, target: Path) -> None:
        tries.append(target)
        raise PermissionError(errno.EACCES, "Permission denied", str(target))

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(ResourceError, match="Permission denied"):
        shards.write_file(tmp_path / "a", b"x")
    assert len(tries) == 1


@pytest.mark.parametrize("number", [errno.EACCES, errno.EINVAL, errno.ENOTSUP, errno.EBADF])
def test_a_folder_that_cannot_be_synced_is_no_error(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows opens no folder; network drives and FUSE sync none. A disk that fails is an error all the same."""
    real, refusal = os.fsync, {"errno": number}

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):  # noqa: PTH112
            raise OSError(refusal["errno"], os.strerror(refusal["errno"]))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    shards.write_file(tmp_path / "a", b"x")
    assert (tmp_path / "a").read_bytes() == b"x"
    refusal["errno"] = errno.EIO
    with pytest.raises(ResourceError):
        shards.write_file(tmp_path / "a", b"y")


def test_on_macos_the_drive_is_told_once_for_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int]] = []

    def fcntl_(file: Any, command: int) -> None:
        told.append((Path(file.name).name, command))
        raise OSError(errno.ENOTSUP, "a network drive")

    files = [tmp_path / name for name in "abc"]
    for file in files:
        file.write_bytes(b"x")
    storage.sync(files, tmp_path)
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", fcntl_)
    monkeypatch.setattr(sys, "platform", "darwin")
    storage.sync(files, tmp_path)
    assert told == [("c", 51)]


@pytest.mark.parametrize("number", [None, errno.EOPNOTSUPP, errno.EINVAL])
def test_room_is_taken_where_it_cannot_be_asked_for(
    number: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """macOS, Windows, ZFS: a file that looked large and held nothing has its blocks, and what it held."""

    def refuse(*_: int) -> None:
        raise OSError(number, "refused")

    if number is None:
        monkeypatch.delattr(os, "posix_fallocate")
    else:
        monkeypatch.setattr(os, "posix_fallocate", refuse)
    size = 3 * storage.BLOCK + 17
    path = tmp_path / "array"
    path.write_bytes(b"head")
    os.truncate(path, size - 5)
    with path.open("r+b") as file:
        before = os.fstat(file.fileno()).st_blocks
        storage.reserve(file.fileno(), size)
    assert path.read_bytes() == b"head" + bytes(size - 4)
    assert before * 512 < storage.BLOCK < size <= path.stat().st_blocks * 512


def test_a_full_disk_is_still_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with (tmp_path / "a").open("wb") as file, pytest.raises(OSError, match="No space"):
        storage.reserve(file.fileno(), 10)


def test_an_output_in_its_input_is_found_where_case_is_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link that is not resolved plays the other spelling of a name."""
    (tmp_path / "data/a").mkdir(parents=True)
    (tmp_path / "DATA").symlink_to("data")
    monkeypatch.setattr(Path, "resolve", Path.absolute)
    for output in ("DATA", "DATA/out", "DATA/a/b/out"):
        with pytest.raises(UsageError, match="overlap"):
            storage.refuse_overlap(tmp_path / output, [tmp_path / "data"])
    with pytest.raises(UsageError, match="overlap"):
        storage.refuse_overlap(tmp_path / "DATA", [tmp_path / "data/a"])
    storage.refuse_overlap(tmp_path / "out", [tmp_path / "data", tmp_path / "missing"])


def test_a_path_too_long_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(ResourceError) as caught:
        shards.write_file(tmp_path / ("x" * 300), b"x")
    assert caught.value.hint == "choose a shorter path with -o"
    for length, hint in ((300, "choose a shorter path with -o"), (30, "nothing finished is lost; then run it again")):
        error = FileNotFoundError(errno.ENOENT, "The system cannot find the path specified", "x" * length)
        error.winerror = 3
        with pytest.raises(ResourceError) as caught, storage.resources(tmp_path):
            raise error
        assert caught.value.hint == hint


def test_work_that_is_still_mapped_is_left_until_it_can_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The output is complete meanwhile; its mark stays to the last, so that the rest is known as ours."""
    real, held = os.unlink, {"array.npy"}

    def unlink(path: Any, *more: Any, **how: Any) -> None:
        if Path(path).name in held:
            raise as_on_windows.refusal(path, as_on_windows.MAPPED)
        real(path, *more, **how)

    monkeypatch.setattr(os, "unlink", unlink)

    def sealed(output: Path) -> shards.Work:
        work = shards.Work.open(output, {})
        if not work.complete:
            (work.scratch / "array.npy").write_bytes(b"x")
            work.seal(statement(stage="protect", method="none"))
        return work

    with shards.lock(tmp_path / "out"):
        work = sealed(tmp_path / "out")
        assert work.complete and sorted(p.name for p in work.scratch.iterdir()) == ["array.npy", shards.MARK]
        held.clear()  # the stage has ended, and its arrays with it
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]

    held.add("array.npy")
    monkeypatch.setattr(storage, "WAITS", (0.0,))
    with shards.lock(tmp_path / "other"):
        work = sealed(tmp_path / "other")
    assert (work.scratch / shards.MARK).exists(), "another process has it"
    held.clear()
    assert sealed(tmp_path / "other").complete and not work.scratch.exists(), "the next run removes it"


# -- locks ----------------------------------------------------------------------------------------------

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


def test_an_output_at_the_working_directory_has_its_lock_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with shards.lock(Path()):
        assert (tmp_path / "here.lock").exists()
    with pytest.raises(UsageError, match="root of the file system"), shards.lock(Path("/")):
        pass
