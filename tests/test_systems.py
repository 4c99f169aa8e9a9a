"""What Linux, macOS and Windows do differently: streams of few letters, shells, drives, files that others hold."""

import errno
import io
import os
import shlex
import subprocess
import sys
from pathlib import Path, PureWindowsPath
from typing import Any

import fake_stages
import pytest
from fake_stages import only_document
from test_layers import ROOT, texts

from ue_audit import cli, errors, spelling, systems
from ue_audit.config import Config
from ue_audit.progress import Place, Stage
from ue_audit.rendering import board, terminal
from ue_audit.settings import EvaluateSettings

pytest_plugins = ("fake_stages",)

ENCODINGS = ("cp1252", "ascii", "cp437", "shift_jis")


# -- streams ---------------------------------------------------------------------------------------------------


class Streams:
    """stdout and stderr of one encoding from `begin` on, and what reached them."""

    def __init__(self, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.encoding, self.raw = encoding, {"stdout": io.BytesIO(), "stderr": io.BytesIO()}
        self.monkeypatch = monkeypatch

    def begin(self) -> None:
        for name, raw in self.raw.items():
            self.monkeypatch.setattr(sys, name, io.TextIOWrapper(raw, self.encoding, errors="strict"))

    def text(self, name: str = "stdout") -> str:
        getattr(sys, name).flush()
        return self.raw[name].getvalue().decode(self.encoding)


@pytest.fixture(params=ENCODINGS)
def streams(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Streams:
    return Streams(request.param, monkeypatch)


def test_every_letter_of_ours_can_be_said_in_ascii() -> None:
    """What the code prints by itself has a plain form; only names from outside become escapes."""
    letters = {letter for path in ROOT.rglob("*.py") for text in texts(path) for letter in text if ord(letter) > 127}
    assert letters <= set(systems.PLAIN) and "→" in letters
    assert all(text.isascii() for text in systems.PLAIN.values())


@pytest.mark.parametrize("words", [[], ["--help"], ["purify", "--help"], ["list"], ["list", "presets"]], ids=" ".join)
def test_help_and_lists(words: list[str], streams: Streams) -> None:
    streams.begin()
    assert cli.main(words) == 0
    assert len(streams.text()) > 200


def test_a_report(data: Path, streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    """Progress on stderr, the verdict on stdout; its numbers stay."""
    report = fake_stages.report_json(Path("other").resolve())
    fake_stages.install(monkeypatch, report=report)
    Path("data.eval").mkdir()
    streams.begin()
    assert cli.main(["report", "data.eval"]) == 0
    assert "report: 2/2 images" in streams.text("stderr")
    out = streams.text()
    assert "honesty checks hold" in out and "Countermeasure" in out and "\\u" not in out and "\\x" not in out


def test_errors_and_names_from_everywhere(data: Path, streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that the encoding lacks is escaped, and can still be told from another."""
    details = [f"日本語/{n}.png" for n in range(30)]
    fake_stages.install(monkeypatch, errors.InputRefused("Füchse → 日本", details=details))
    streams.begin()
    assert cli.main(["protect", "data"]) == 3
    err = streams.text("stderr")
    assert "error: F" in err and " -> " in err or "→" in err
    assert "10 more (-v shows all)" in err
    assert streams.encoding == "shift_jis" or "\\u65e5\\u672c\\u8a9e/19.png" in err
    assert cli.main(["protect", "--json", "data"]) == 3
    assert only_document(streams.text())["error"]["message"] == "Füchse → 日本"


def test_bars_and_the_board_of_an_audit(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    streams.begin()
    systems.plain_streams()
    place = Place("data.emn", "jcdp", "supervised", "data.emn.jcdp", 0)
    for shown in (terminal.LiveProgress, board.Board):
        progress = shown(terminal.console(stderr=True))
        progress.stages([Stage("evaluate", "data.eval", "ue-audit evaluate")])
        progress.matrix([place])
        progress.start("training → 日本", 2, "epochs")
        progress.advance(1, accuracy=0.5)
        progress.trained(place, 0.5)
        progress.say("± ≥ …")
        progress.close()
    assert "2 epochs" in streams.text("stderr").replace("\x1b", "") or "1/2" in streams.text("stderr")


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_whole_process(encoding: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT.parent), "COLUMNS": "100"}
    for words, code in ((["--help"], 0), (["verify", "日本→"], 2), (["list", "learners"], 0)):
        line = [sys.executable, "-m", "ue_audit", *words]
        ended = subprocess.run(line, env=environment, cwd=tmp_path, capture_output=True, timeout=60)
        assert ended.returncode == code and b"Traceback" not in ended.stderr
        (ended.stdout + ended.stderr).decode(encoding)


def test_a_stream_of_unicode_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    found = Streams("utf-8", monkeypatch)
    found.begin()
    systems.plain_streams()
    print("→ 日本", end="")
    assert found.text() == "→ 日本" and sys.stdout.errors == "strict"
    monkeypatch.setattr(sys, "stdout", None)  # a process without a console
    systems.plain_streams()


# -- command lines and paths -----------------------------------------------------------------------------------


def test_a_line_to_paste_is_quoted_for_the_shell_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["ue-audit", "protect", "--set", "layers=[1, 2]", "my photos"]
    assert shlex.split(systems.typed(words)) == words
    monkeypatch.setattr(systems.os, "name", "nt")
    typed = systems.typed(words)
    monkeypatch.undo()
    assert typed == 'ue-audit protect --set "layers=[1, 2]" "my photos"'


def test_recorded_lines_and_settings_have_no_backslash() -> None:
    """Windows' own paths: what a manifest keeps of them is what Linux keeps."""
    own, other = PureWindowsPath("my data\\train"), PureWindowsPath("b\\c")
    asked: Any = EvaluateSettings.model_construct(folders=(own, other), test=own, output=None)
    recorded = spelling.recorded(asked)
    assert recorded["folders"] == ["my data/train", "b/c"] and recorded["test"] == "my data/train"
    assert spelling.command("evaluate", asked) == "ue-audit evaluate --test 'my data/train' 'my data/train' b/c"
    assert spelling.pasted("ue-audit", "verify", other) == "ue-audit verify b/c"


def test_every_configuration_writes_paths_so() -> None:
    class Inner(Config):
        place: Path | None = None

    class Outer(Config):
        inner: Inner = Inner()
        named: dict[str, Inner] = {}
        share: float = 0.5

    made = Inner.model_construct(place=PureWindowsPath("a\\b"))
    found = Outer.model_construct(inner=made, named={"x": made}).model_dump(mode="json")
    assert found == {"inner": {"place": "a/b"}, "named": {"x": {"place": "a/b"}}, "share": 0.5}
    assert Outer(inner=Inner(place=Path("a/b"))).model_dump()["inner"]["place"] == Path("a/b")


def test_another_drive_has_no_relative_path(monkeypatch: pytest.MonkeyPatch) -> None:
    assert systems.near(Path("/a/b/c"), Path("/a/d")) == Path("../b/c")

    def relpath(path: Any, base: Any = None) -> str:
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    monkeypatch.setattr(systems.os.path, "relpath", relpath)
    assert systems.near(Path("/a/b/c"), Path("/a/d")) == Path("/a/b/c")


# -- files that another process holds --------------------------------------------------------------------------


def refusing(times: int, code: int | None) -> tuple[list[int], Any]:
    """A change that Windows refuses so often with this code of its own; the calls."""
    calls: list[int] = []

    def act() -> str:
        calls.append(len(calls))
        if len(calls) <= times:
            error = PermissionError(errno.EACCES, "refused")
            if code is not None:
                error.winerror = code
            raise error
        return "done"

    return calls, act


@pytest.mark.parametrize("code", systems.HELD)
def test_a_held_file_is_waited_for(code: int) -> None:
    calls, act = refusing(2, code)
    assert systems.patiently(act, (0.0, 0.0, 0.0)) == "done" and len(calls) == 3


def test_not_without_end_and_not_for_what_will_not_change() -> None:
    for times, code, tries in ((99, 32, 4), (99, None, 1), (99, 87, 1)):
        calls, act = refusing(times, code)
        with pytest.raises(PermissionError):
            systems.patiently(act, (0.0, 0.0, 0.0))
        assert len(calls) == tries
    assert 1 < sum(systems.WAITS) < 3, "seconds: longer than a scanner takes, shorter than a user waits"
