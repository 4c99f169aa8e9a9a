"""Seconds of one kind of work, kept over resumptions."""

import time
from pathlib import Path

import pytest

from ue_audit.stopwatch import Stopwatch, Timer
from ue_audit.tools import Tools


def test_it_counts_only_inside_and_goes_on_after_a_kill(tmp_path: Path) -> None:
    watch = Stopwatch(Tools(work=tmp_path), "purifying")
    with watch:
        time.sleep(0.02)
    first = watch.seconds
    time.sleep(0.02)
    assert first >= 0.02 and watch.seconds == first
    again = Stopwatch(Tools(work=tmp_path), "purifying")
    assert again.seconds == first
    with again:
        time.sleep(0.01)
    assert again.seconds >= first + 0.01
    assert Stopwatch(Tools(work=tmp_path), "other").seconds == 0.0


def test_work_that_fails_has_taken_its_time_and_still_fails(tmp_path: Path) -> None:
    watch = Stopwatch(Tools(work=tmp_path), "purifying")
    with pytest.raises(ValueError, match="broken"), watch:
        time.sleep(0.01)
        raise ValueError("broken")
    assert Stopwatch(Tools(work=tmp_path), "purifying").seconds >= 0.01


def test_a_timer_goes_on_from_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [5.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    timer = Timer(tmp_path)
    tools = Tools(work=tmp_path, saved=timer.keep)
    now[0] = 12.0
    tools.save("model", dict)
    now[0] = 15.0  # lost: no state was saved after it
    assert timer.seconds == 10.0
    again = Timer(tmp_path)
    now[0] = 16.0
    assert (again.before, again.seconds, Timer(tmp_path / "another").before) == (7.0, 8.0, 0.0)
