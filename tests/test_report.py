"""The stage: same inputs same bytes, up to date, refusals, images or none, lineage that no longer fits."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import synthetic_evaluation as synthetic

from ue_audit import background, facts, manifest, report, scores
from ue_audit.errors import IntegrityError, UsageError
from ue_audit.progress import Progress
from ue_audit.settings import ReportSettings


class Heard(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


def settings(evaluation: Path, name: str = "data.report", **more: Any) -> ReportSettings:
    return ReportSettings(evaluation=evaluation, output=evaluation.parent / name, **more)


def content(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return found


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    return synthetic.write(tmp_path)


def test_a_report_is_sealed_verified_and_complete(evaluation: Path) -> None:
    folder = report.run(settings(evaluation))
    assert sorted(p.name for p in folder.iterdir() if not p.name.startswith("ue-audit")) == sorted(report.FILES)
    assert manifest.verify(folder).problems == []
    m = manifest.read(folder)
    assert m.stage == "report" and m.summary["grade"] == content(folder)["verdict"]["grade"] == "F"
    assert m.next.startswith("ue-audit verify --chain")


def test_same_inputs_same_bytes_and_the_second_run_is_up_to_date(evaluation: Path) -> None:
    folder = report.run(settings(evaluation))
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    heard = Heard()
    report.run(settings(evaluation), heard)
    assert len(heard.lines) == 1 and "up to date" in heard.lines[0]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == kept
    report.run(settings(evaluation, fresh=True))
    assert {name: (folder / name).read_bytes() for name in report.FILES} == {name: kept[name] for name in report.FILES}


def test_the_numbers_are_those_of_scores(evaluation: Path) -> None:
    found = content(report.run(settings(evaluation)))
    records = manifest.records(evaluation)

    def arm(folder: str) -> scores.Arm:
        return scores.Arm(tuple(r["last"] for r in records if r["cell"]["folder"] == folder), 2000)

    left = scores.survival(arm("train"), arm("data.emn"), arm("data.emn.jcdp"))
    assert left is not None
    assert found["verdict"]["survival"] == pytest.approx(left._asdict(), abs=1e-6)
    assert found["verdict"]["chosen"]["countermeasure"] == "jcdp"
    assert found["setup"]["chance"] == 0.25 and found["schema"] == 1
    ceilings = {a["countermeasure"]: a["ceiling"] for a in found["countermeasures"]}
    assert ceilings == {k: pytest.approx(arm(f"data.{k}").mean, abs=1e-6) for k in ("jcdp", "ddpm")}


def test_cost_prior_and_provenance_come_from_the_manifests(evaluation: Path) -> None:
    found = content(report.run(settings(evaluation)))
    assert all(a["seconds"] >= 181 and a["device"] == "cpu" for a in found["countermeasures"])
    assert "4,000 raw images" in found["verdict"]["cheapest"]
    assert found["prior"]["seconds"] == 181 and set(found["prior"]["overlap"].values()) == {0}
    rows = {row["name"]: row for row in found["provenance"]}
    assert rows["data.emn"]["digest"] == manifest.read(evaluation.parent / "data.emn").tree[:12]
    assert rows["train"]["stage"] == "the owner's images"
    assert {"raw.prior.ckpt", "data.emn.jcdp", "data.jcdp", "data.eval"} <= rows.keys()


def test_no_path_of_this_machine_is_in_any_form(evaluation: Path) -> None:
    folder = report.run(settings(evaluation))
    for name in ("report.json", "report.md", "report.html"):
        assert str(evaluation.parent.parent) not in (folder / name).read_text()


@pytest.mark.parametrize(("best", "shown"), [("jcdp", ["jcdp", "ddpm"]), ("ddpm", ["ddpm", "jcdp"])])
def test_the_sheet_shows_the_chosen_attack_first(tmp_path: Path, best: str, shown: list[str]) -> None:
    """Whoever won: it was JCDP whenever JCDP had run, also where JPEG broke the protection."""
    names = {f"data.emn.{name}": 0.8 if name == best else 0.6 for name in ("jcdp", "ddpm")}
    means = {cell: names.get(cell[1], mean) for cell, mean in synthetic.MEANS.items()}
    made = content(report.run(settings(synthetic.write(tmp_path, synthetic.records(means)))))
    columns = [column for column in made["sheet"]["columns"] if column.startswith("purified by")]
    assert [column.split()[-1] for column in columns] == shown


def test_without_images_there_is_no_sheet(evaluation: Path) -> None:
    folder = report.run(settings(evaluation, images=False))
    assert content(folder)["sheet"] is None and not (folder / "report.png").exists()
    assert "data:image" not in (folder / "report.html").read_text()


def test_the_report_stands_without_the_folders_behind_it(evaluation: Path) -> None:
    for path in evaluation.parent.iterdir():
        if path != evaluation:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    found = content(report.run(settings(evaluation)))
    assert found["verdict"]["grade"] == "F" and found["sheet"] is None
    assert {c["name"]: c["state"] for c in found["checks"]}["Budget kept"] == "unknown"
    assert found["countermeasures"][0]["seconds"] is None and found["verdict"]["cheapest"] is None


def test_a_parent_made_anew_is_noticed(evaluation: Path) -> None:
    folder = evaluation.parent / "data.emn.jcdp"
    shutil.rmtree(folder)
    shutil.copytree(evaluation.parent / "data.jcdp", folder)
    found = content(report.run(settings(evaluation)))
    assert {c["name"]: c["state"] for c in found["checks"]}["Lineage"] == "fail"


def test_a_quick_audit_has_no_grade_and_says_why(tmp_path: Path) -> None:
    evaluation = synthetic.write(tmp_path, synthetic.records(seeds=1))
    verdict = content(report.run(settings(evaluation)))["verdict"]
    assert verdict["grade"] is None and "1 training seed" in verdict["no_grade"][0]
    assert verdict["survival"]["low"] is None and verdict["survival"]["value"] is not None


def test_cells_of_unequal_numbers_of_seeds(tmp_path: Path) -> None:
    """Five seeds where three left the verdict open: every figure is made of what there is."""
    more = {"data.emn", "data.emn.jcdp", "train"}
    records = [r for r in synthetic.records(seeds=5) if r["seed"] < 3 or r["cell"]["folder"] in more]
    found = content(report.run(settings(synthetic.write(tmp_path, records))))

    def arm(folder: str) -> scores.Arm:
        return scores.Arm(tuple(r["last"] for r in records if r["cell"]["folder"] == folder), 2000)

    assert {c["folder"]: c["seeds"] for c in found["cells"] if c["seeds"] == 5}.keys() == more
    left = scores.survival(arm("train"), arm("data.emn"), arm("data.emn.jcdp"))
    assert left is not None and found["verdict"]["survival"] == pytest.approx(left._asdict(), abs=1e-6)
    other = next(a for a in found["countermeasures"] if a["countermeasure"] == "ddpm")
    rr = scores.recovery(arm("train"), arm("data.emn"), arm("data.emn.ddpm"))
    assert rr is not None and other["recovery"] == pytest.approx(rr._asdict(), abs=1e-6)
    training = next(s for s in found["uncertainty"]["sources"] if s["source"] == "training")
    assert training["n"] == 5 and training["clean"] == pytest.approx(arm("train").spread, abs=1e-6)
    assert {c["name"]: c["text"] for c in found["checks"]}["Seeds"].startswith("5 training seeds")
    assert found["seeds_added"] is None and found["setup"]["seeds"] == 3


def test_two_learners_are_told_apart(tmp_path: Path) -> None:
    records = synthetic.records() + synthetic.records(learner="wide")
    folder = report.run(settings(synthetic.write(tmp_path, records)))
    found = content(folder)
    assert len(found["audits"]) == 2 and len(found["setup"]["learners"]) == 2
    text = (folder / "report.html").read_text()
    assert "clean images, wide" in text and text.count('class="curves"') == 2


def test_what_is_no_evaluation_is_refused(evaluation: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected an evaluation, found the output of protect"):
        report.run(settings(evaluation.parent / "data.emn"))
    with pytest.raises(UsageError, match="expected an output"):
        report.run(settings(tmp_path / "nothing"))
    with pytest.raises(UsageError, match="overlap"):
        report.run(ReportSettings(evaluation=evaluation, output=evaluation / "report"))


def test_damaged_records_are_refused(evaluation: Path) -> None:
    path = evaluation / manifest.RECORDS
    path.write_bytes(path.read_bytes().replace(b"0.8", b"0.9", 1))
    with pytest.raises(IntegrityError):
        report.run(settings(evaluation))


def test_a_plan_writes_nothing(evaluation: Path) -> None:
    before = sorted(evaluation.parent.iterdir())
    plan = report.plan(settings(evaluation))
    assert plan.stage == "report" and sorted(evaluation.parent.iterdir()) == before


def test_a_budget_that_the_records_break_is_found(evaluation: Path) -> None:
    known = facts.gather(evaluation)
    made = known.made["data.emn"]
    assert background.budget(known.folders["data.emn"], made) == {
        "norm": "linf", "largest": 8, "limit": pytest.approx(8), "unit": "levels", "kept": True,
    }  # fmt: skip
    tight = made.model_copy(update={"budget": synthetic.BUDGET.model_copy(update={"limit": 7 / 255})})
    found = background.budget(known.folders["data.emn"], tight)
    assert found is not None and not found["kept"]
    assert background.budget(known.folders["data.jcdp"], known.made["data.jcdp"]) is None


def test_an_l2_budget_grows_with_the_image(evaluation: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = facts.gather(evaluation)
    lines = [{"l2": 2.0, "width": 64, "height": 64}, {"l2": 1.5, "width": 32, "height": 32}]
    monkeypatch.setattr(manifest, "records", lambda _: lines)
    made = known.made["data.emn"].model_copy(update={"budget": manifest.Budget(norm="l2", limit=1.0)})
    found = background.budget(known.folders["data.emn"], made)  # 2.0 is allowed at 64 px, 1.5 at 32 px is not
    assert found is not None and (found["largest"], found["limit"], found["kept"]) == (1.5, 1.0, False)
