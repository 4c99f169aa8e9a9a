"""A time budget: what matters most first, what was left out is said, and more time goes on to the same bytes."""

import json
import os
import shutil
from pathlib import Path

import pytest
import stand_ins.centroids
import torch
from kill import changes, killed
from test_evaluate import chain, settings  # noqa: F401 (a fixture)

from ue_audit import evaluate, manifest, report, shards, trainings
from ue_audit.errors import ResourceError
from ue_audit.settings import EvaluateSettings, ReportSettings

NAMES = ("data.maps.grey", "data.grey")


@pytest.fixture
def clock(monkeypatch):
    """Every training takes ten seconds, and nothing else any."""
    now, train = [0.0], trainings.train

    def slow(*arguments):
        now[0] += 10.0
        return train(*arguments)

    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr(trainings, "train", slow)
    return now


def records(out: Path) -> bytes:
    return (out / manifest.RECORDS).read_bytes()


def test_it_stops_where_the_next_training_would_pass_the_budget(chain, clock):  # noqa: F811
    """45 s: four trainings of ten, since a fifth would end at 50. One seed of all that a verdict needs."""
    out = evaluate.run(settings(chain, *NAMES, budget=45.0))
    found = manifest.records(out)
    assert sorted(r["cell"]["role"] for r in found) == ["clean", "noise", "protected", "purified"]
    assert len({r["seed"] for r in found}) == 1
    left = manifest.read(out).notes["left_out"]
    assert (left["trainings"], left["of"], left["budget"]) == (6, 10, 45.0)
    ceiling = {"role": "ceiling", "folder": "data.grey", "learner": "stand_ins.centroids", "trained": 0, "of": 2}
    assert ceiling in left["cells"]
    assert any("6 of 10 trainings left out: --budget gave them 45 s" in text for text in manifest.read(out).warnings)


def test_more_time_goes_on_to_the_unbroken_run(chain, clock):  # noqa: F811
    whole = evaluate.run(settings(chain, *NAMES, output=chain / "whole.eval"))
    out = evaluate.run(settings(chain, *NAMES, budget=45.0))
    for budget, count in ((45.0, 4), (49.0, 4), (71.0, 7), (None, 10), (5.0, 10)):
        assert evaluate.run(settings(chain, *NAMES, budget=budget)) == out
        assert len(manifest.records(out)) == count
        assert manifest.verify(out).problems == []
    assert records(out) == records(whole)
    assert "left_out" not in manifest.read(out).notes
    a, b = manifest.read(out), manifest.read(whole)
    assert a.run.seconds == b.run.seconds == 100.0, "time counts over all sittings"
    assert a.run.measures == b.run.measures and a.tree == b.tree and a.warnings == b.warnings


def test_the_budget_counts_what_an_interrupted_run_took(chain, clock, monkeypatch):  # noqa: F811
    train, calls = trainings.train, []

    def dies(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return train(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trainings, "train", dies)
        with pytest.raises(KeyboardInterrupt):
            evaluate.run(settings(chain, *NAMES, budget=60.0))
    out = evaluate.run(settings(chain, *NAMES, budget=60.0))
    assert len(manifest.records(out)) == 6


def test_no_time_for_a_single_training_is_an_error(chain, clock, monkeypatch):  # noqa: F811
    work_elapsed = shards.Work.elapsed
    monkeypatch.setattr(shards.Work, "elapsed", lambda self: work_elapsed(self) + 1)
    with pytest.raises(ResourceError, match="ended before the first training"):
        evaluate.run(settings(chain, *NAMES, budget=0.5))
    assert len(manifest.records(evaluate.run(settings(chain, *NAMES)))) == 10


def test_the_report_lists_what_was_left_out_and_is_made_anew_with_more(chain, clock):  # noqa: F811
    asked = ReportSettings(evaluation=chain / "data.eval", output=chain / "data.report", images=False)

    def limits(budget):
        evaluate.run(settings(chain, *NAMES, budget=budget))
        return json.loads((report.run(asked) / "report.json").read_bytes())["limits"]

    assert any(line.startswith("Time: 6 of 10 trainings left out: --budget gave them 45 s") for line in limits(45.0))
    assert not any("left out" in line for line in limits(None))
    made = (chain / "data.report" / manifest.MANIFEST).read_bytes()
    report.run(asked)
    assert (chain / "data.report" / manifest.MANIFEST).read_bytes() == made, "up to date"


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_killed_anywhere_while_it_goes_on(chain, clock, no_sync):  # noqa: F811
    """Whatever was trained in the first sitting is kept, whether the kill comes before or after the reopening."""
    more: EvaluateSettings = settings(chain, *NAMES, seeds=1)
    whole = evaluate.run(more.model_copy(update={"output": chain / "whole.eval"}))
    out = evaluate.run(more.model_copy(update={"budget": 35.0}))
    assert len(manifest.records(out)) == 3
    shutil.copytree(out, chain / "kept")
    count = len(changes(lambda: evaluate.run(more)))
    for k in range(1, count + 1):
        shutil.rmtree(out)
        shutil.copytree(chain / "kept", out)
        assert killed(lambda: evaluate.run(more), k)
        assert records(evaluate.run(more)) == records(whole), f"killed at change {k} of {count}"
        assert manifest.verify(out).problems == []
        took, unbroken = (manifest.read(place).run.measures["training seconds"] for place in (out, whole))
        again = [key for key in unbroken if took[key] != unbroken[key]]  # killed after its state was saved
        assert took.keys() == unbroken.keys() and len(again) <= 1, f"at {k} of {count}"
        assert all(took[key] == 2 * unbroken[key] for key in again), f"at {k} of {count}"


@pytest.mark.parametrize("count", range(1, 11))
def test_there_is_a_report_wherever_the_budget_ends(chain, clock, count):  # noqa: F811
    out = evaluate.run(settings(chain, *NAMES, budget=10.0 * count))
    assert len(manifest.records(out)) == count
    made = report.run(ReportSettings(evaluation=out, output=chain / "data.report", images=False))
    found = json.loads((made / "report.json").read_bytes())
    assert found["verdict"]["grade"] is None, "under three seeds"
    assert any("left out" in line for line in found["limits"]) == (count < 10)


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def killed_in(number, asked, monkeypatch):
    """A sitting that is killed in training `number`, when its first epoch of two was saved."""
    fit, begun = stand_ins.centroids.fit, []

    def dies(data, config, tools):
        begun.append(1)
        for epoch in fit(data, config, tools):
            if epoch.number == 2 and len(begun) == number:
                raise KeyboardInterrupt
            yield epoch

    with monkeypatch.context() as patch:
        patch.setattr(stand_ins.centroids, "fit", dies)
        with pytest.raises(KeyboardInterrupt):
            evaluate.run(asked)


def test_what_a_killed_training_took_is_part_of_its_time(chain, clock, one_thread, monkeypatch):  # noqa: F811
    asked = settings(chain, *NAMES, seeds=1)
    killed_in(1, asked, monkeypatch)
    assert '"shard"' not in (chain / "data.eval" / manifest.JOURNAL).read_text(), "before the first training ended"
    clock[0] += 1000.0  # until it is started again
    found = manifest.read(evaluate.run(asked)).run
    assert sorted(found.measures["training seconds"].values()) == [10.0] * 4 + [20.0]
    assert found.seconds == 60.0


def test_what_a_killed_training_took_counts_once_against_the_budget(chain, clock, one_thread, monkeypatch):  # noqa: F811
    """20 s were spent, ten of them in the training that goes on: it fits into 20 s, and another does not."""
    asked = settings(chain, *NAMES, seeds=1, budget=20.0)
    killed_in(2, asked, monkeypatch)
    assert len(manifest.records(evaluate.run(asked))) == 2
