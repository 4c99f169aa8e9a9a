"""What is shown: plain on a pipe, one JSON document, the bare place; names from outside stay inert."""

import re
from pathlib import Path
from typing import Any

import fake_stages
import pytest
from fake_stages import only_document

from ue_audit import cli, errors, manifest

pytest_plugins = ("fake_stages",)


# -- what is shown -----------------------------------------------------------------------------------------


def test_closing_on_a_pipe_is_plain(
    calls: list[tuple[str, Any]], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["protect", "data"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "protect: data.emn",
        "  images                   2",
        "  largest change (levels)  8",
        "  mean PSNR (dB)           not measured",
        "warning: threshold not met",
        "next: ue-audit next data.emn",
    ]
    assert "protect: 2/2 images" in err
    assert "\x1b" not in out + err


def test_quiet_leaves_only_the_place(
    calls: list[tuple[str, Any]], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["protect", "-q", "data"]) == 0
    assert capsys.readouterr() == ("data.emn\n", "")


@pytest.mark.parametrize("word", ["-q", "--json"])
def test_of_a_whole_audit_nothing_is_shown_meanwhile(
    word: str, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not even where stderr is a terminal."""
    fake_stages.install(monkeypatch, report=fake_stages.report_json(Path("other").resolve()))
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert cli.main(["run", "quick", "data", "--set", "source.raw=data", word]) == 0
    out, err = capsys.readouterr()
    assert err == "" and (only_document(out) if word == "--json" else out.strip() == "quick.audit/data.report")


def test_up_to_date_is_said(calls: list[tuple[str, Any]], data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["protect", "data"])
    first = Path("data.emn/ue-audit.json").read_bytes()
    assert cli.main(["protect", "data"]) == 0
    assert "data.emn is up to date" in capsys.readouterr().err
    assert Path("data.emn/ue-audit.json").read_bytes() == first


def test_other_parameters_are_refused(calls: list[tuple[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["protect", "data"])
    assert cli.main(["protect", "--seed", "1", "data"]) == 2
    assert "seed" in capsys.readouterr().err
    assert cli.main(["protect", "--seed", "1", "--fresh", "data"]) == 0


@pytest.mark.parametrize(
    "words",
    [
        "protect data",
        "protect --dry-run data",
        "protect -q data",
        "purify --show-config data",
        "train-prior data",
        "list",
        "list presets",
        "demo --dry-run",
        "run quick data --set source.raw=data --dry-run",
        "doctor",
    ],
)
def test_json_is_one_document(words: str, calls: list[tuple[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*words.split(), "--json"]) == 0
    assert only_document(capsys.readouterr().out)["command"] if "show-config" not in words else True


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("protect", "Missing argument"),
        ("protect --set a data", "key=value"),
        ("protct", "protect"),
        ("protect --limit x data", "x"),
        ("protect --limit 0 --device gpu data", "2 setting"),
        ("report", "evaluate"),
        ("list protectins", "protectins"),
        ("run nothing", "nothing"),
        ("verify data", "data"),
        ("protect --config gone.yaml data", "gone.yaml"),
        ("protect --on-bad maybe data", "maybe"),
    ],
)
def test_json_errors_are_one_document(
    words: str, part: str, calls: list[tuple[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main([*words.split(), "--json"])
    out, err = capsys.readouterr()
    assert code == 2
    error = only_document(out)["error"]
    assert set(error) == {"code", "message", "hint", "details"}
    assert "Traceback" not in out + err
    assert part in " ".join([error["message"], error["hint"], *error["details"]])


# -- names from outside ------------------------------------------------------------------------------------

HOSTILE = [
    "\x1b[31mred", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\link", "\x9b31m", "[/nope]", "[red]x", "[bold red]x[/]",
    "[link=http://x]y[/link]", "[@click=quit]", "a\nb", "a\rb", "a\tb", "a\x08\x08b", "\x00", "\x7f", "\u202egnp.exe",
    "\u2066x\u2069", "\u200bx", "\ufeff", "\u2028", "\u2029", "\u0085",
    "<script>alert(1)</script>", "<img src=x onerror=y>",
    "`rm -rf ~`", "$(reboot)", "|pipe|", "**bold**", "[a](javascript:x)", "![i](x)", "--help", "-q", "a\\",
    "\\[red]", "]", "[", "[[]]", "{0}", "%s%n", ":smile:", "'\"", "\ud800",
]  # fmt: skip
ACTING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def inert(shown: str, name: str) -> None:
    """Nothing in `shown` acts on a terminal, and what is printable of the name is there as it was."""
    assert not ACTING.search(shown), shown
    letters = max(re.split(r"[^!-~]+", name), key=len)
    assert letters in shown


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names_are_inert(
    name: str, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error = errors.InputRefused(f"class {name}", hint=f"rename {name}", details=[f"{name}/1.png: truncated"])
    fake_stages.install(monkeypatch, error)
    for words in (["protect", "data"], ["protect", f"--method={name}", "data"], ["protect", f"--set={name}", "data"],
                  ["protect", "--", name], ["run", "--", name], ["list", "--", name], [f"--{name}"]):  # fmt: skip
        assert cli.main(words) != 70, words
        out, err = capsys.readouterr()
        assert not ACTING.search(out + err)
    assert cli.main(["protect", "data"]) == 3
    inert(capsys.readouterr().err, name)


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names_in_results_are_inert(
    name: str, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through a manifest: summary, warnings and the next command hold names of classes and folders."""
    shown = manifest.statement(stage="protect", method="emn", summary={name: name}, warnings=[name], next=name)
    fake_stages.install(monkeypatch)
    monkeypatch.setattr("ue_audit.manifest.read", lambda path: shown)
    assert cli.main(["protect", "data"]) == 0
    inert(capsys.readouterr().out, name)
