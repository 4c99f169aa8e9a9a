"""The in-toto test result beside a report: its form, its result, what it is about."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import synthetic_evaluation as synthetic

from ue_audit import attestation, manifest, report
from ue_audit.manifest import Dependency
from ue_audit.settings import ReportSettings

EVALUATION = Dependency(name="evaluation", uri="../data.eval", digest={"tree": "e" * 64})
SUBJECT = ("data.emn", "d" * 64)


def content(low: float | None, value: float | None = None, states: str = "ok") -> dict[str, Any]:
    """The parts of report.json that count, with one check for each state."""
    checks = [{"name": f"check {n} {s}", "state": s, "text": "…"} for n, s in enumerate(states.split())]
    survival = None if value is None and low is None else {"value": value or low, "low": low, "high": 1.0}
    return {"checks": checks, "verdict": {"survival": survival}}


def predicate(found: dict[str, Any], bound: float | None = None) -> dict[str, Any]:
    made: dict[str, Any] = json.loads(attestation.statement(found, SUBJECT, EVALUATION, b"{}", bound))["predicate"]
    return made


def test_it_is_a_statement_of_the_published_schema() -> None:
    made = json.loads(attestation.statement(content(0.6, states="ok warn fail unknown"), SUBJECT, EVALUATION, b"{}"))
    assert made.keys() == {"_type", "subject", "predicateType", "predicate"}
    assert made["_type"] == "https://in-toto.io/Statement/v1"
    assert made["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert made["subject"] == [{"name": "data.emn", "digest": {"dirHash1": "d" * 64}}]
    inside = made["predicate"]
    assert inside.keys() == {"result", "configuration", "passedTests", "warnedTests", "failedTests"}
    assert inside["result"] in ("PASSED", "WARNED", "FAILED")
    assert inside["configuration"] == [
        {"name": "evaluation", "uri": "../data.eval", "digest": {"dirHash1": "e" * 64}},
        {"name": "report.json", "digest": {"sha256": hashlib.sha256(b"{}").hexdigest()}},
    ]
    assert inside["passedTests"] == ["Survival of at least 0.5", "check 0 ok"]
    assert inside["warnedTests"] == ["check 1 warn", "check 3 unknown"] and inside["failedTests"] == ["check 2 fail"]


@pytest.mark.parametrize(
    ("found", "bound", "result"),
    [
        (content(0.6, 0.7), None, "PASSED"),
        (content(0.4, 0.7), None, "WARNED"),  # more survives than not, but that may be chance
        (content(0.1, 0.3), None, "FAILED"),
        (content(None, 0.9), None, "FAILED"),  # one seed
        (content(None), None, "FAILED"),  # no attacker
        (content(0.6, states="ok warn"), None, "WARNED"),
        (content(0.6, states="ok unknown"), None, "WARNED"),
        (content(0.6, states="ok warn fail"), None, "FAILED"),
        (content(0.6), 0.6, "PASSED"),
        (content(0.6), 0.61, "FAILED"),
        (content(0.4, 0.7), 0.5, "FAILED"),  # asked for, a bound is for the lower end alone
        (content(0.1, 0.3), 0.05, "PASSED"),
        (content(0.6, states="fail"), 0.1, "FAILED"),
        (content(None, 0.9), 0.0, "FAILED"),
    ],
)
def test_the_result_is_the_worst_of_the_tests(found: dict[str, Any], bound: float | None, result: str) -> None:
    made = predicate(found, bound)
    assert made["result"] == result
    names = [*made["passedTests"], *made["warnedTests"], *made["failedTests"]]
    assert len(names) == len(set(names)) == len(found["checks"]) + 1


def written(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / attestation.FILE).read_bytes())
    return found


def test_beside_a_report_it_names_the_set_the_evaluation_and_every_check(tmp_path: Path) -> None:
    evaluation = synthetic.write(tmp_path)
    folder = report.run(ReportSettings(evaluation=evaluation, output=tmp_path / "data.report"))
    found, whole = written(folder), json.loads((folder / "report.json").read_bytes())
    [subject] = found["subject"]
    assert subject == {"name": "data.emn", "digest": {"dirHash1": manifest.read(tmp_path / "data.emn").tree}}
    made, own = found["predicate"]["configuration"]
    assert made["digest"] == {"dirHash1": manifest.read(evaluation).tree} and made["uri"] == "../data.eval"
    assert own["digest"]["sha256"] == manifest.file_sha256(folder / "report.json")
    tests = [name for key in ("passedTests", "warnedTests", "failedTests") for name in found["predicate"][key]]
    assert sorted(tests) == sorted([*(c["name"] for c in whole["checks"]), "Survival of at least 0.5"])
    assert found["predicate"]["result"] == "FAILED", "grade F"
    assert manifest.verify(folder).problems == []
    (folder / attestation.FILE).write_bytes(b"{}")
    assert [problem.path for problem in manifest.verify(folder).problems] == [attestation.FILE]


def test_another_bound_makes_the_report_anew_and_none_leaves_it(tmp_path: Path) -> None:
    evaluation = synthetic.write(tmp_path)

    def run(**bound: float) -> dict[str, Any]:
        return written(report.run(ReportSettings(evaluation=evaluation, output=tmp_path / "data.report", **bound)))

    first = run()
    assert "Survival of at least 0.05" in run(fail_under=0.05)["predicate"]["passedTests"]
    kept = (tmp_path / "data.report" / manifest.MANIFEST).read_bytes()
    assert run() == run(fail_under=0.05)
    assert (tmp_path / "data.report" / manifest.MANIFEST).read_bytes() == kept, "up to date"
    assert manifest.read(tmp_path / "data.report").settings["fail_under"] == 0.05
    assert run(fail_under=0.5)["predicate"]["result"] == first["predicate"]["result"] == "FAILED"


def test_where_nothing_was_audited_it_is_about_the_evaluation(tmp_path: Path) -> None:
    means = {key: mean for key, mean in synthetic.MEANS.items() if key[0] == "clean"}
    evaluation = synthetic.write(tmp_path, synthetic.records(means))
    found = written(report.run(ReportSettings(evaluation=evaluation, output=tmp_path / "data.report")))
    assert found["subject"] == [{"name": "data", "digest": {"dirHash1": manifest.read(evaluation).tree}}]
    assert found["predicate"]["failedTests"] == ["Survival of at least 0.5"]
