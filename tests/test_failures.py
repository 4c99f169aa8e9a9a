"""How a run ends: an exit code for every branch, tracebacks for bugs only, and the line that resumes."""

import errno
import os
import signal
from pathlib import Path
from typing import Any

import fake_stages
import pytest
from fake_stages import only_document

from ue_audit import cli, errors, failures, shards

pytest_plugins = ("fake_stages",)


BRANCHES = [
    (errors.UsageError("x"), 2), (errors.InputRefused("x", details=["a", "b"]), 3),
    (errors.IntegrityError("x"), 4), (errors.ResourceError("x"), 5), (errors.LockedError("x"), 6),
    (errors.NonFiniteError("x"), 70), (OSError(errno.ENOSPC, "No space left", "data.emn/x"), 5), (MemoryError(), 5),
    (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate"), 5), (KeyError("bug"), 70),
    (FileNotFoundError(errno.ENOENT, "No such file", "x"), 70), (BrokenPipeError(), 141),
]  # fmt: skip


@pytest.mark.parametrize(("error", "code"), BRANCHES, ids=lambda value: repr(value))
def test_exit_codes(
    error: BaseException, code: int, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_stages.install(monkeypatch, error)
    assert cli.main(["protect", "data"]) == code
    err = capsys.readouterr().err
    bug = code == 70 and not isinstance(error, errors.AuditError)
    assert ("Traceback" in err) == bug, "only a bug shows its traceback"
    assert cli.main(["protect", "-v", "data"]) == code
    assert ("Traceback" in capsys.readouterr().err) == (code != 141)
    assert cli.main(["protect", "--json", "data"]) == code
    assert code == 141 or only_document(capsys.readouterr().out)["error"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_with_the_line_that_resumes(
    number: int, code: int, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Killed:
        def run(self, *_: Any) -> None:
            os.kill(os.getpid(), number)
            signal.pause() if hasattr(signal, "pause") else None

    monkeypatch.setattr("ue_audit.chain.module", lambda name: Killed())
    before = signal.getsignal(number)
    assert cli.main(["protect", "--fresh", "--set", "eps=8/255", "data"]) == code
    assert "go on with: ue-audit protect --set eps=8/255 data" in capsys.readouterr().err
    assert signal.getsignal(number) is before


def test_a_locked_folder(calls: list[tuple[str, Any]], data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with shards.lock(Path("data.emn")):
        assert cli.main(["protect", "data"]) == 6
    assert str(os.getpid()) in capsys.readouterr().err
    assert not calls
    assert cli.main(["protect", "data"]) == 0


def test_many_details_are_cut_unless_asked_for(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_stages.install(monkeypatch, errors.InputRefused("30 images", details=[f"number {n}" for n in range(30)]))
    cli.main(["protect", "data"])
    err = capsys.readouterr().err
    assert "number 19" in err and "number 20" not in err and "10 more" in err
    cli.main(["protect", "-v", "data"])
    assert "number 29" in capsys.readouterr().err


def test_a_window_that_is_closed_ends_as_a_termination(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Windows sends SIGBREAK and no SIGTERM; SIGUSR1 plays it here."""

    class Closed:
        def run(self, *_: Any) -> None:
            os.kill(os.getpid(), signal.SIGUSR1)
            signal.pause()

    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    monkeypatch.setattr("ue_audit.chain.module", lambda name: Closed())
    assert cli.main(["protect", "data"]) == 143
    assert "go on with: ue-audit protect data" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "file", "code"), [("nt", None, 141), ("posix", None, 70), ("nt", "a.png", 70)])
def test_a_reader_that_went_away_on_windows(name: str, file: str | None, code: int) -> None:
    """There a closed pipe is an invalid argument without a file's name."""
    error = OSError(errno.EINVAL, "Invalid argument") if file is None else OSError(errno.EINVAL, "Invalid", file)
    before, os.name = os.name, name
    try:
        found = failures.explain(error, ["list"])
    finally:
        os.name = before
    assert found.exit_code == code
