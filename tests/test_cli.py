"""The command line: help without torch, options that become settings."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_stages import only_document

from ue_audit import cli
from ue_audit.spelling import MODELS

pytest_plugins = ("fake_stages",)

COMMANDS = [
    "split", "protect", "import", "train-prior", "import-prior", "purify", "merge", "evaluate", "report", "run", "demo",
    "detect", "export", "verify", "list", "doctor", "bench",
]  # fmt: skip
HEAVY = ("torch", "torchvision", "lpips", "scipy", "PIL")


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
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=env, stdin=subprocess.DEVNULL
    )
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
        "layers": "--set",
        "learners": "--learner",
        "start": "--from",
        "images": "--no-images",
        "noise_control": "--no-noise-control",
        "source": "SOURCE" if stage == "split" else "FOLDER",
        "raw": "RAW",
        "form": "--from",
        "raw_share": "--raw",
        "test_share": "--test",
        "val_share": "--val",
        "folders": "PART" if stage == "merge" else "FOLDER",
        "evaluation": "FOLDER",
    }
    for field in MODELS[stage].model_fields:
        assert names.get(field, f"--{field.replace('_', '-')}") in shown, field


# -- from options to settings ------------------------------------------------------------------------------


def test_preset_file_and_flags_are_layers(calls: list[tuple[str, Any]], data: Path) -> None:
    Path("mine.yaml").write_text("t_purify: 40\npasses: 3\n")
    words = (
        "purify --prior p.ckpt --method jcdp --config mine.yaml --set passes=1 --set steps=2 --seed 0 --size 32 data"
    )
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


def test_dry_run_writes_nothing(calls: list[tuple[str, Any]], data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(Path().rglob("*"))
    assert cli.main(["protect", "--dry-run", "data"]) == 0
    assert sorted(Path().rglob("*")) == before
    out = capsys.readouterr().out
    assert "2 images in 1 classes" in out and "1 min 15 s" in out and "nothing was written" in out


def test_help_into_a_pipe_that_closes_says_nothing() -> None:
    command = f"{shlex.quote(sys.executable)} -m ue_audit protect --help | head -c 1; sleep 1"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in ended.stderr and "bug" not in ended.stderr
