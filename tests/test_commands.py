"""report, its gate, and verify, on the outputs of an audit without any training."""

import json
from pathlib import Path

import pytest
import synthetic_evaluation
from fake_stages import only_document

from ue_audit import cli

pytest_plugins = ("fake_stages",)


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


@pytest.mark.parametrize(("bound", "code"), [("0.99", 1), ("99%", 1), ("0.05", 0)])
def test_fail_under_is_a_gate(bound: str, code: int, evaluation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", f"--fail-under={bound}", "--json", "data.eval"]) == code
    document = only_document(capsys.readouterr().out)
    assert document["gate"]["passed"] == (code == 0)
    assert document["gate"]["low"] == document["verdict"]["survival"]["low"]


@pytest.mark.parametrize("bound", ["40", "-0.1", "101%", "much"])
def test_a_gate_is_a_share(bound: str, evaluation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """40 would be 4000 %, which nothing passes."""
    assert cli.main(["report", f"--fail-under={bound}", "data.eval"]) == 2
    assert f"such as 0.4 or 40%, found {bound!r}" in capsys.readouterr().err and not Path("data.report").exists()


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


def test_two_audits_are_compared_and_written_only_where_asked(
    evaluation: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", "-q"]) == 0
    before = sorted(Path().rglob("*"))
    capsys.readouterr()
    assert cli.main(["report", "--compare", "data.report", "data.eval"]) == 0
    assert "the same trainings" in capsys.readouterr().out and sorted(Path().rglob("*")) == before
    assert cli.main(["report", "--compare", "data.report", "data.eval", "-o", "both", "--json"]) == 0
    found = only_document(capsys.readouterr().out)["comparison"]
    assert json.loads(Path("both/comparison.json").read_bytes()) == found
    assert cli.main(["verify", "both"]) == 0


@pytest.mark.parametrize("more", ["--fail-under=0.4", "--no-images", "--dry-run", "--show-config", "data.eval"])
def test_a_comparison_stands_alone(more: str, evaluation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "--compare", "data.eval", "data.eval", more]) == 2
    assert "--compare takes two audits" in capsys.readouterr().err


def test_a_comparison_with_nothing_there_is_refused(evaluation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", "--compare", "data.eval", "nowhere"]) == 2
    assert "found nothing at nowhere" in capsys.readouterr().err
