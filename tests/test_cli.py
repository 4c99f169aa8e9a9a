"""The command line: help without torch, exit codes, one JSON document, and nothing from outside acting on a terminal."""

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import fake_stages
import pytest
import synthetic_evaluation
import yaml

from ue_audit import cli, errors, manifest, shards
from ue_audit.settings import MODELS

COMMANDS = ["protect", "train-prior", "purify", "evaluate", "report", "run", "demo", "verify", "list", "doctor"]
HEAVY = ("torch", "torchvision", "lpips", "scipy", "PIL")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Working directory with data/cat/1.png."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "data" / "cat").mkdir(parents=True)
    (tmp_path / "data" / "cat" / "1.png").write_bytes(b"")
    return Path("data")


@pytest.fixture
def calls(data: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Stand-ins for the stages, and what they were called with."""
    return fake_stages.install(monkeypatch)


def only_document(out: str) -> dict[str, Any]:
    """The one JSON document on stdout; fails on anything before or after it."""
    document: dict[str, Any] = json.loads(out)
    assert document["schema"] == "ue-audit/result/1"
    return document


# -- at once, without torch --------------------------------------------------------------------------------

LOCKED = """
from ue_audit import storage
from pathlib import Path
with storage.lock(Path("data.emn")):
    exit_code = main(["protect", "data"])
"""


@pytest.mark.parametrize(
    ("run", "code"),
    [
        *((f"exit_code = main([{command!r}, '--help'])", 0) for command in COMMANDS),
        ("exit_code = main([])", 0),
        ("exit_code = main(['protect', '--metod', 'emn'])", 2),
        ("exit_code = main(['protect', 'nowhere'])", 2),
        ("exit_code = main(['protect', '--method', 'emm', 'data'])", 2),
        ("exit_code = main(['list'])", 0),
        ("exit_code = main(['demo', '--dry-run'])", 0),
        (LOCKED, 6),
    ],
)
def test_quick_answers_import_nothing_heavy(run: str, code: int, data: Path) -> None:
    script = f"import sys\nfrom ue_audit.cli import main\n{run}\nloaded = [m for m in {HEAVY} if m in sys.modules]\n"
    script += f"sys.exit(f'{{loaded}} {{exit_code}}' if loaded or exit_code != {code} else 0)"
    env = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])}
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_opens_with_two_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--help"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0].startswith(f"Usage: ue-audit {command}")
    assert all(line.startswith(f"ue-audit {command}") for line in lines[1:3])


def test_examples_are_commands_that_parse(calls: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example's options exist: with --help behind it, parsing stops at an unknown one."""
    for line in Path(cli.__file__).read_text().splitlines():
        if line.startswith("    ue-audit "):
            assert cli.main([*shlex.split(line)[1:], "--help"]) == 0, line


@pytest.mark.parametrize("stage", MODELS)
def test_every_stage_setting_has_an_option(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main([stage, "--help"])
    shown = capsys.readouterr().out
    names = {
        "layers": "--set", "learners": "--learner", "start": "--from", "images": "--no-images",
        "noise_control": "--no-noise-control", "source": "FOLDER", "raw": "RAW", "folders": "FOLDER", "evaluation": "FOLDER",
    }  # fmt: skip
    for field in MODELS[stage].model_fields:
        assert names.get(field, f"--{field.replace('_', '-')}") in shown, field


# -- from options to settings ------------------------------------------------------------------------------


def test_preset_file_and_flags_are_layers(calls: list[tuple[str, Any]], data: Path) -> None:
    Path("mine.yaml").write_text("t_purify: 40\npasses: 3\n")
    words = "purify --prior p.ckpt --method jcdp --config mine.yaml --set passes=1 --set steps=2 --seed 0 --size 32 data"
    assert cli.main(words.split()) == 0
    [(stage, settings)] = calls
    assert (stage, settings.method, settings.size, settings.seed) == ("purify", "jcdp", 32, 0)
    assert settings.layers == {"file": {"t_purify": 40, "passes": 3}, "flag": {"passes": 1, "steps": 2}}
    assert settings.model_fields_set >= {"seed"}, "a seed of 0 that was asked for is a seed that was given"


def test_a_file_may_name_the_method(calls: list[tuple[str, Any]], data: Path) -> None:
    Path("mine.yaml").write_text("method: ddpm\npasses: 3\n")
    assert cli.main(["purify", "--config", "mine.yaml", "data"]) == 0
    assert cli.main(["purify", "--config", "mine.yaml", "--method", "jcdp", "data"]) == 0
    assert [settings.method for _, settings in calls] == ["ddpm", "jcdp"]
    assert "method" not in calls[0][1].layers["file"]


def test_flags_that_turn_something_off(calls: list[tuple[str, Any]], data: Path) -> None:
    assert cli.main(["evaluate", "--no-noise-control", "--seeds", "1", "--learner", "supervised", "data"]) == 0
    [(_, settings)] = calls
    assert not settings.noise_control and settings.seeds == 1 and settings.learners == ("supervised",)


def test_the_newest_output_is_taken_and_named(
    calls: list[tuple[str, Any]], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["protect", "data"]) == 0
    capsys.readouterr()
    assert cli.main(["purify"]) == 0
    assert capsys.readouterr().err.splitlines()[0] == "purify: using data.emn, the newest output of protect"
    assert cli.main(["evaluate"]) == 0
    assert [settings.place().name for _, settings in calls] == ["data.emn", "data.emn.jcdp", "data.eval"]


def test_nothing_to_take(calls: list[tuple[str, Any]], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["purify"]) == 2
    assert "no complete output of protect" in capsys.readouterr().err


def test_show_config_is_yaml_with_origins(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["purify", "--method", "jcdp-paper", "--set", "passes=7", "--seed", "3", "--show-config", "data"]
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    shown = yaml.safe_load(text)
    assert shown["settings"]["seed"] == 3
    assert shown["purifier jcdp"]["passes"] == 7
    assert re.search(r"^  seed: 3 +# flag$", text, re.M)
    assert re.search(r"^  passes: 7 +# flag$", text, re.M)
    assert re.search(r"^  t_purify: .*# preset$", text, re.M)
    assert cli.main([*words, "--json"]) == 0
    assert only_document(capsys.readouterr().out)["origins"]["purifier jcdp"]["passes"] == "flag"


def test_dry_run_writes_nothing(
    calls: list[tuple[str, Any]], data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(Path().rglob("*"))
    assert cli.main(["protect", "--dry-run", "data"]) == 0
    assert sorted(Path().rglob("*")) == before
    out = capsys.readouterr().out
    assert "2 images in 1 classes" in out and "1 min 15 s" in out and "nothing was written" in out


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
    ["protect data", "protect --dry-run data", "protect -q data", "purify --show-config data", "train-prior data",
     "list", "list presets", "demo --dry-run", "run quick data --set source.raw=data --dry-run", "doctor"],
)  # fmt: skip
def test_json_is_one_document(
    words: str, calls: list[tuple[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*words.split(), "--json"]) == 0
    assert only_document(capsys.readouterr().out)["command"] if "show-config" not in words else True


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("protect", "Missing argument"), ("protect --set a data", "key=value"), ("protct", "protect"),
        ("protect --limit x data", "x"), ("protect --limit 0 --device gpu data", "2 setting"), ("report", "evaluate"),
        ("list protectins", "protectins"), ("run nothing", "nothing"), ("verify data", "data"),
        ("protect --config gone.yaml data", "gone.yaml"), ("protect --on-bad maybe data", "maybe"),
    ],
)  # fmt: skip
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


# -- how it ends -------------------------------------------------------------------------------------------

BRANCHES = [
    (errors.GateFailed("x"), 1), (errors.UsageError("x"), 2), (errors.InputRefused("x", details=["a", "b"]), 3),
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


# -- report and verify, the true ones ----------------------------------------------------------------------


@pytest.fixture
def evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    synthetic_evaluation.write(Path())
    return Path("data.eval")


def test_report_shows_the_verdict(evaluation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report"]) == 0
    out, err = capsys.readouterr()
    assert err.splitlines()[0] == "report: using data.eval, the newest output of evaluate"
    verdict = json.loads(Path("data.report/report.json").read_bytes())["verdict"]
    assert f"grade {verdict['grade']}" in out and "next: ue-audit verify --chain" in out


@pytest.mark.parametrize(("bound", "code"), [("0.99", 1), ("-5", 0)])
def test_fail_under_is_a_gate(
    bound: str, code: int, evaluation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", f"--fail-under={bound}", "--json", "data.eval"]) == code
    document = only_document(capsys.readouterr().out)
    assert document["gate"]["passed"] == (code == 0)
    assert document["gate"]["low"] == document["verdict"]["survival"]["low"]


def test_a_gate_without_an_interval_fails(evaluation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One seed has no interval: what was not measured does not pass."""
    records = synthetic_evaluation.records(seeds=1)
    place = Path("one")
    place.mkdir()
    made = synthetic_evaluation.write(place, found=records)
    assert cli.main(["report", "--fail-under", "0.0", str(made)]) == 1
    assert "there is no interval" in capsys.readouterr().err


def test_verify_tells_a_changed_file(evaluation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", "data.emn", "data.eval"]) == 0
    image = next(Path("data.emn").rglob("*.png"))
    image.write_bytes(image.read_bytes() + b"x")
    capsys.readouterr()
    assert cli.main(["verify", "data.emn", "--json"]) == 4
    [output] = only_document(capsys.readouterr().out)["outputs"]
    assert {problem["path"] for problem in output["problems"]} == {image.relative_to("data.emn").as_posix()}


# -- names from outside ------------------------------------------------------------------------------------

HOSTILE = [
    "\x1b[31mred", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\link", "\x9b31m", "[/nope]", "[red]x", "[bold red]x[/]",
    "[link=http://x]y[/link]", "[@click=quit]", "a\nb", "a\rb", "a\tb", "a\x08\x08b", "\x00", "\x7f", "\u202egnp.exe",
    "\u2066x\u2069", "\u200bx", "\ufeff", "\u2028", "\u2029", "\u0085", "<script>alert(1)</script>", "<img src=x onerror=y>",
    "`rm -rf ~`", "$(reboot)", "|pipe|", "**bold**", "[a](javascript:x)", "![i](x)", "--help", "-q", "a\\", "\\[red]", "]",
    "[", "[[]]", "{0}", "%s%n", ":smile:", "'\"", "\ud800",
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
