"""Changes on disk are whole or not there; one process works at a time."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from kill import changes, refused

from ue_audit import shards, storage
from ue_audit.errors import LockedError, ResourceError, UsageError

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
