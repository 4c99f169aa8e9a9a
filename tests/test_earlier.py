"""Trainings that are there already: an evaluation grows and keeps what it has; one that would lose some is refused."""

import json
import os
import shutil
from pathlib import Path

import pytest
from kill import changes, killed
from test_evaluate import ALL, chain, settings  # noqa: F401 (chain: a fixture)
from test_sitting import CLOSED, OPEN, sets  # noqa: F401 (sets: a fixture)
from test_sitting import settings as adding

from ue_audit import earlier, evaluate, manifest, purify, report, trainings
from ue_audit.errors import UsageError
from ue_audit.settings import EvaluateSettings, PurifySettings, ReportSettings

TWO = ("stand_ins.centroids", "stand_ins.fooled")
FIRST = {"folders": ("data.maps",), "seeds": 1}
GROWN = [
    {"folders": ("data.maps", *ALL)},
    {"learners": TWO},
    {"seeds": 3},
    {"folders": ("data.maps", *ALL), "learners": TWO, "seeds": 2},
]


def asked(root: Path, folders: tuple[str, ...] = ("data.maps",), **more: object) -> EvaluateSettings:
    return settings(root, *folders, **{"seeds": 1} | more)


def records(out: Path) -> bytes:
    return (out / manifest.RECORDS).read_bytes()


@pytest.fixture
def calls(monkeypatch):
    """The keys of the trainings that are begun."""
    begun, train = [], trainings.train
    monkeypatch.setattr(trainings, "train", lambda t, *others: begun.append(t.key) or train(t, *others))
    return begun


@pytest.mark.parametrize("more", GROWN, ids=["sets", "learners", "seeds", "all"])
def test_it_grows_to_what_a_new_one_would_be(chain, calls, more):  # noqa: F811
    out = evaluate.run(asked(chain))
    first, before = len(calls), set(records(out).splitlines())
    assert evaluate.run(asked(chain, **more)) == out
    grown = set(records(out).splitlines())
    assert before < grown and len(calls) == len(grown) and not set(calls[first:]) & set(calls[:first])
    whole = evaluate.run(asked(chain, **more, output=chain / "whole.eval"))
    assert records(out) == records(whole)
    a, b = manifest.read(out), manifest.read(whole)
    assert (a.key, a.parameters, a.tree, a.notes) == (b.key, b.parameters, b.tree, b.notes)
    assert a.run.measures["training seconds"].keys() == b.run.measures["training seconds"].keys()
    assert manifest.verify(out).problems == []
    made = (out / manifest.MANIFEST).read_bytes()
    evaluate.run(asked(chain, **more))
    assert (out / manifest.MANIFEST).read_bytes() == made, "up to date"


def test_an_unfinished_one_grows_as_well(chain, calls, monkeypatch):  # noqa: F811
    train = trainings.train

    def dies(*arguments):
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainings, "train", dies)
        evaluate.run(asked(chain))
    done = json.dumps((chain / "data.eval" / manifest.JOURNAL).read_text()).count("shard")
    assert 0 < done < 3
    begun = len(calls)
    out = evaluate.run(asked(chain, **GROWN[-1]))
    assert len(calls) - begun == len(manifest.records(out)) - done
    assert records(out) == records(evaluate.run(asked(chain, **GROWN[-1], output=chain / "whole.eval")))


@pytest.mark.parametrize(
    ("less", "differs"),
    [
        ({"folders": ("data.maps.grey",)}, "cells"),
        ({"learners": TWO[1:]}, "learners"),
        ({"seeds": 1}, "seeds"),
        ({"seed": 1}, "seed"),
        ({"layers": {"flag": {"epochs": 3}}}, "epochs"),
    ],
)
def test_one_that_would_lose_a_training_is_refused_and_kept(chain, less, differs):  # noqa: F811
    whole = {"folders": ("data.maps", *ALL), "seeds": 2}
    out = evaluate.run(asked(chain, **whole))
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    if "folders" in less:
        less = less | {"noise_control": False}
    with pytest.raises(UsageError, match="other settings") as caught:
        evaluate.run(asked(chain, **whole | less))
    assert any(differs in line for line in caught.value.details)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_rounds_of_added_seeds_begin_anew(sets, calls):  # noqa: F811
    """A stronger countermeasure closes what two more seeds were added for: those are not asked for any more."""
    opened = adding(sets, layers={"flag": {"purified": OPEN, "restored": CLOSED}})
    out = evaluate.run(opened)
    assert len(manifest.records(out)) == 21
    pale = {"method": "stand_ins.grey", "layers": {"flag": {"share": 0.25}}}
    purify.run(PurifySettings(source=sets / "data.maps", output=sets / "data.maps.pale", **pale))
    both = opened.model_copy(update={"folders": (*opened.folders, sets / "data.maps.pale")})
    begun = len(calls)
    evaluate.run(both)
    assert len(manifest.records(out)) == 6 * 3
    assert not set(calls[begun:]) & set(calls[:begun])
    whole = evaluate.run(both.model_copy(update={"output": sets / "whole.eval"}))
    assert records(out) == records(whole) and manifest.read(out).notes == manifest.read(whole).notes
    kept = {record["key"] for record in manifest.records(out)}
    assert manifest.read(out).run.measures["training seconds"].keys() == kept


def test_a_budget_that_ends_says_what_the_larger_one_lacks(chain, monkeypatch):  # noqa: F811
    out = evaluate.run(asked(chain))
    monkeypatch.setattr(earlier.agenda, "fits", lambda *arguments: False)
    evaluate.run(asked(chain, **GROWN[0], budget=1.0))
    assert manifest.read(out).notes["left_out"]["trainings"] == 2 and len(manifest.records(out)) == 3
    made = report.run(ReportSettings(evaluation=out, output=chain / "data.report", images=False))
    found = json.loads((made / "report.json").read_bytes())
    assert any("2 of 5 trainings left out" in line for line in found["limits"])


def test_added_seeds_are_kept_when_the_time_ends_before_they_are_asked_for(sets, calls, monkeypatch):  # noqa: F811
    opened = adding(sets)
    out = evaluate.run(opened)
    pale = {"method": "stand_ins.grey", "layers": {"flag": {"share": 0.25}}}
    purify.run(PurifySettings(source=sets / "data.maps", output=sets / "data.maps.pale", **pale))
    both = opened.model_copy(update={"folders": (*opened.folders, sets / "data.maps.pale"), "budget": 1.0})
    with monkeypatch.context() as patch:
        patch.setattr(earlier.agenda, "fits", lambda *arguments: False)
        evaluate.run(both)
    assert len(manifest.records(out)) == 21 and manifest.read(out).notes["left_out"]["trainings"] == 3
    begun = len(calls)
    evaluate.run(both.model_copy(update={"budget": None}))
    assert not set(calls[begun:]) & set(calls[:begun])
    whole = evaluate.run(both.model_copy(update={"output": sets / "whole.eval", "budget": None}))
    assert records(out) == records(whole) and manifest.read(out).notes == manifest.read(whole).notes


def test_the_report_is_made_anew(chain):  # noqa: F811
    def seeds():
        made = report.run(ReportSettings(evaluation=chain / "data.eval", output=chain / "data.report", images=False))
        return json.loads((made / "report.json").read_bytes())["setup"]["seeds"]

    evaluate.run(asked(chain))
    assert seeds() == 1
    evaluate.run(asked(chain, seeds=3))
    assert seeds() == 3


@pytest.mark.skipif(os.name != "posix", reason="forks")
def test_killed_anywhere_while_it_grows(chain, no_sync):  # noqa: F811
    more = asked(chain, folders=("data.maps", *ALL))
    whole = evaluate.run(more.model_copy(update={"output": chain / "whole.eval"}))
    out = evaluate.run(asked(chain))
    shutil.copytree(out, chain / "kept")
    count = len(changes(lambda: evaluate.run(more)))
    for k in range(1, count + 1):
        shutil.rmtree(out)
        shutil.copytree(chain / "kept", out)
        assert killed(lambda: evaluate.run(more), k)
        assert records(evaluate.run(more)) == records(whole), f"killed at change {k} of {count}"
        assert manifest.verify(out).problems == []


def test_of_other_evaluations_each_training_is_known_once(chain):  # noqa: F811
    first, second = (evaluate.run(asked(chain, output=chain / f"{name}.eval")) for name in "ab")
    contents = {record["content"] for record in manifest.records(first)}
    wanted = {*contents, "another"}
    found = list(earlier.known((first, second), wanted))
    assert {content for content, _, _ in found} == contents and len(found) == len(contents) == 3
    assert wanted == {"another"}
    took = manifest.read(first).run.measures["training seconds"]
    assert all(seconds == took[record["key"]] for _, record, seconds in found)
