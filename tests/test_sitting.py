"""Sittings of an evaluation that adds seeds: killed, short of time, with trainings of others, and always one result."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from kill import changes, killed
from stand_ins import owner
from test_evaluate_budget import clock  # noqa: F401 (a fixture)

from ue_audit import evaluate, manifest, protect, purify, report, trainings
from ue_audit.errors import UsageError
from ue_audit.settings import EvaluateSettings, ProtectSettings, PurifySettings, ReportSettings

OPEN, CLOSED = 0.7, 1.0  # accuracy after the countermeasure: survival of a third, or less than none
WHOLE = {"clean": 5, "protected": 5, "purified": 5, "noise": 3, "ceiling": 3}


@pytest.fixture
def sets(tmp_path):
    """60 images: protected, purified, and the ceiling."""
    owner(tmp_path / "data", each=20)
    protect.run(ProtectSettings(source=tmp_path / "data", method="stand_ins.maps", output=tmp_path / "data.maps"))
    for source, name in ((tmp_path / "data.maps", "data.maps.grey"), (tmp_path / "data", "data.grey")):
        purify.run(PurifySettings(source=source, method="stand_ins.grey", output=tmp_path / name))
    return tmp_path


def settings(root, purified=OPEN, **more):
    fields = {"output": root / "data.eval", "learners": ("stand_ins.fooled",), "seeds": 3, "max_seeds": 5}
    folders = (root / "data.maps.grey", root / "data.grey")
    layers = {"flag": {"purified": purified}}
    return EvaluateSettings(**fields | {"folders": folders, "layers": layers} | more)


def records(out: Path) -> bytes:
    return (out / manifest.RECORDS).read_bytes()


def counted(out: Path) -> dict[str, int]:
    return dict(Counter(r["cell"]["role"] for r in manifest.records(out)))


def test_seeds_are_added_where_the_interval_is_open(sets):
    out = evaluate.run(settings(sets))
    assert counted(out) == WHOLE
    added = manifest.read(out).notes["seeds_added"]
    assert (added["from"], added["to"]) == (3, 5)
    (row,) = added["sets"]
    assert (row["protected"], row["added"], row["seeds"]) == ("data.maps", 2, 5)
    assert [look["seeds"] for look in row["looks"]] == [3, 4]
    assert manifest.verify(out).problems == []
    made = (out / manifest.MANIFEST).read_bytes()
    assert evaluate.run(settings(sets)) == out and (out / manifest.MANIFEST).read_bytes() == made, "up to date"


def test_none_is_added_where_it_is_not(sets):
    out = evaluate.run(settings(sets, CLOSED))
    assert set(counted(out).values()) == {3}
    assert manifest.read(out).notes["seeds_added"]["sets"] == []


def test_without_the_setting_all_is_as_it_was(sets):
    """Neither the key of the work nor the manifest knows of it; and those three seeds are the first three of five."""
    out = evaluate.run(settings(sets, max_seeds=None))
    found = manifest.read(out)
    assert set(counted(out).values()) == {3} and "max_seeds" not in {**found.parameters, **found.settings}
    assert "seeds_added" not in found.notes
    more = evaluate.run(settings(sets, output=sets / "more.eval"))
    assert set(records(out).splitlines()) < set(records(more).splitlines())
    assert records(evaluate.run(settings(sets))) == records(more), "asked for later, they are added to what is there"
    with pytest.raises(UsageError) as caught:
        evaluate.run(settings(sets, max_seeds=None))
    assert any("max_seeds" in text for text in caught.value.details)


def test_interrupted_anywhere_it_takes_the_same_decisions(sets, monkeypatch):
    whole = evaluate.run(settings(sets, output=sets / "whole.eval"))
    train, again = trainings.train, settings(sets)

    def dies(*arguments):
        record = train(*arguments)
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return record

    monkeypatch.setattr(trainings, "train", dies)
    for _ in range(60):
        calls = []
        try:
            out = evaluate.run(again)
            break
        except KeyboardInterrupt:
            continue
    assert records(out) == records(whole)
    assert manifest.read(out).notes == manifest.read(whole).notes


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_killed_anywhere_while_seeds_are_added(sets, no_sync):
    """From the last of the planned trainings on: in a round, between two, and while it is sealed."""
    asked = settings(sets)
    count = len(changes(lambda: evaluate.run(asked)))
    whole = records(sets / "data.eval")
    for k in range(count // 2, count + 1, 5):
        shutil.rmtree(sets / "data.eval")
        assert killed(lambda: evaluate.run(asked), k)
        assert records(evaluate.run(asked)) == whole, f"killed at change {k} of {count}"
        assert manifest.verify(sets / "data.eval").problems == []


def test_a_budget_bounds_what_is_added_too(sets, clock):  # noqa: F811
    """Ten seconds a training: fifteen planned, three and three more. Nothing is looked at before all planned ones are
    there, and more time goes on to the same bytes."""
    whole = evaluate.run(settings(sets, output=sets / "whole.eval"))
    for budget, count in ((100.0, 10), (150.0, 15), (165.0, 16), (185.0, 18), (None, 21), (5.0, 21)):
        out = evaluate.run(settings(sets, budget=budget))
        found = manifest.read(out)
        assert len(manifest.records(out)) == count
        assert ("left_out" in found.notes) == (count < 21) and ("seeds_added" in found.notes) == (count >= 15)
        if count == 16:
            assert (found.notes["left_out"]["trainings"], found.notes["left_out"]["of"]) == (2, 18)
    assert records(out) == records(whole)
    assert found.notes == manifest.read(whole).notes and found.tree == manifest.read(whole).tree


def test_trainings_that_are_added_are_taken_over(sets, monkeypatch):
    """Of five seeds of everything only those are taken that are asked for."""
    evaluate.run(settings(sets, seeds=5, max_seeds=None, output=sets / "five.eval"))
    calls, train = [], trainings.train
    monkeypatch.setattr(trainings, "train", lambda *arguments: calls.append(1) or train(*arguments))
    out = evaluate.run(settings(sets, reuse=(sets / "five.eval",)))
    assert not calls and counted(out) == WHOLE
    fresh = evaluate.run(settings(sets, output=sets / "fresh.eval"))
    assert len(calls) == 21 and records(fresh) == records(out)


def test_a_twin_of_equal_images_is_not_trained_again(sets, monkeypatch):
    """Two cells of the same pixels: what one of them was added, the other takes if it comes to be asked for."""
    purify.run(PurifySettings(source=sets / "data.maps", method="stand_ins.grey", output=sets / "data.maps.twin"))
    calls, train = [], trainings.train
    monkeypatch.setattr(trainings, "train", lambda *arguments: calls.append(1) or train(*arguments))
    asked = settings(sets)
    out = evaluate.run(asked.model_copy(update={"folders": (*asked.folders, sets / "data.maps.twin")}))
    assert len(calls) == 21 and len(manifest.records(out)) >= 24


def test_the_report_says_who_got_more_and_why(sets):
    out = evaluate.run(settings(sets))
    made = report.run(ReportSettings(evaluation=out, output=sets / "data.report", images=False))
    found = json.loads((made / "report.json").read_bytes())
    (row,) = found["seeds_added"]["sets"]
    assert row["sentence"].startswith("2 for data.maps, whose survival [")
    assert {c["role"]: c["seeds"] for c in found["cells"]} == WHOLE and found["setup"]["seeds"] == 3
    said = {c["name"]: c["text"] for c in found["checks"]}
    assert said["Seeds"].startswith("5 training seeds") and row["sentence"] in said["Seeds"]
    assert any(line.startswith("Seeds: 3 planned, up to 5") and row["sentence"] in line for line in found["limits"])
    assert row["sentence"] in (made / "report.md").read_text().replace("\\", "")


def test_a_dry_run_says_that_more_may_come(sets):
    assert any("up to 5 seeds" in note for note in evaluate.plan(settings(sets)).notes)
    assert not any("up to" in note for note in evaluate.plan(settings(sets, max_seeds=None)).notes)
