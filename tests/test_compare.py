"""The stage behind report --compare: what it reads, what it refuses, what it writes."""

import json
from pathlib import Path

import pytest
import synthetic_evaluation as synthetic

from ue_audit import compare, manifest, report
from ue_audit.errors import IntegrityError, UsageError
from ue_audit.settings import ReportSettings
from ue_audit.tool_settings import CompareSettings

OTHER = {**synthetic.MEANS, ("purified", "data.emn.jcdp", "jcdp"): 0.6}


@pytest.fixture
def audits(tmp_path: Path) -> tuple[Path, Path]:
    """A report and an evaluation."""
    evaluation = synthetic.write(tmp_path / "one")
    other = synthetic.write(tmp_path / "two", synthetic.records(OTHER))
    return report.run(ReportSettings(evaluation=evaluation, output=tmp_path / "data.report")), other


def test_a_report_and_its_evaluation_are_the_same(audits: tuple[Path, Path], tmp_path: Path) -> None:
    found, path = compare.run(CompareSettings(compare=(audits[0], tmp_path / "one" / "data.eval")))
    assert path is None and all(row["shared"] for row in found["accuracies"])
    assert (found["first"]["name"], found["second"]["name"]) == ("data.report", "data.eval")


def test_audits_of_one_name_are_told_apart_by_the_folders_above(audits: tuple[Path, Path], tmp_path: Path) -> None:
    found, _ = compare.run(CompareSettings(compare=(tmp_path / "one" / "data.eval", audits[1])))
    assert (found["first"]["name"], found["second"]["name"]) == ("one/data.eval", "two/data.eval")
    found, _ = compare.run(CompareSettings(compare=(audits[0], audits[0])))
    assert found["first"]["name"] == found["second"]["name"] == "data.report"


def test_nothing_is_written_unless_asked(audits: tuple[Path, Path], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    compare.run(CompareSettings(compare=audits))
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_written_is_sealed_verified_and_up_to_date(audits: tuple[Path, Path], tmp_path: Path) -> None:
    asked = CompareSettings(compare=audits, output=tmp_path / "both")
    found, path = compare.run(asked)
    assert path == tmp_path / "both" and manifest.verify(path, chain=False).problems == []
    kept = {file.name: file.read_bytes() for file in path.iterdir()}
    assert {*compare.FILES, manifest.MANIFEST, manifest.RECORDS, manifest.SUMS} == set(kept)
    assert json.loads(kept["comparison.json"]) == json.loads(json.dumps(found))
    assert kept["comparison.md"].startswith(b"# data.report and data.eval\n")
    assert not any(str(tmp_path).encode() in kept[name] for name in compare.FILES)
    compare.run(asked)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == kept, "up to date"
    compare.run(asked.model_copy(update={"fresh": True}))
    assert {name: (path / name).read_bytes() for name in compare.FILES} == {name: kept[name] for name in compare.FILES}
    with pytest.raises(UsageError, match="other settings"):
        compare.run(CompareSettings(compare=(audits[1], audits[0]), output=path))


def test_parents_are_found_again(audits: tuple[Path, Path], tmp_path: Path) -> None:
    _, path = compare.run(CompareSettings(compare=audits, output=tmp_path / "both"))
    assert path is not None
    (audits[0] / "report.md").write_text("something else")
    assert any("[first]" in problem.path for problem in manifest.verify(path, chain=True).problems)


def test_what_is_neither_is_refused(audits: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a report or an evaluation, found the output of protect"):
        compare.run(CompareSettings(compare=(audits[0], tmp_path / "one" / "data.emn")))
    with pytest.raises(UsageError, match="expected an output of ue-audit"):
        compare.run(CompareSettings(compare=(audits[0], tmp_path / "one" / "data")))
    with pytest.raises(UsageError, match="overlap"):
        compare.run(CompareSettings(compare=audits, output=audits[1] / "both"))


def test_a_changed_report_is_refused(audits: tuple[Path, Path]) -> None:
    path = audits[0] / "report.json"
    path.write_bytes(path.read_bytes().replace(b"0.8", b"0.9", 1))
    with pytest.raises(IntegrityError, match="was changed after it was written"):
        compare.run(CompareSettings(compare=audits))
