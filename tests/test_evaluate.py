"""evaluate: cells from lineage, one record per training, resume, honest warnings."""

import json
import shutil

import pytest
import stand_ins.centroids
import torch
from stand_ins import owner

from ue_audit import earlier, evaluate, manifest, protect, purify, report, trainings
from ue_audit.errors import ResourceError, UsageError
from ue_audit.settings import EvaluateSettings, ProtectSettings, PurifySettings, ReportSettings


@pytest.fixture
def chain(tmp_path):
    """Protected, purified and ceiling of a small set; returns the folder that holds them."""
    owner(tmp_path / "data")
    protect.run(ProtectSettings(source=tmp_path / "data", method="stand_ins.maps", output=tmp_path / "data.maps"))
    for source, name in ((tmp_path / "data.maps", "data.maps.grey"), (tmp_path / "data", "data.grey")):
        purify.run(PurifySettings(source=source, method="stand_ins.grey", output=tmp_path / name))
    return tmp_path


def settings(root, *names, **more):
    fields = {"output": root / "data.eval", "learners": ("stand_ins.centroids",), "seeds": 2}
    return EvaluateSettings(**fields | {"folders": tuple(root / name for name in names)} | more)


ALL = ("data.maps.grey", "data.grey")


def test_every_role_is_found_from_lineage_and_trained_with_every_seed(chain):
    records = manifest.records(evaluate.run(settings(chain, *ALL)))
    roles = sorted(r["cell"]["role"] for r in records)
    assert roles == sorted(["clean", "noise", "protected", "purified", "ceiling"] * 2)
    assert len({r["key"] for r in records}) == 10 and len({r["seed"] for r in records}) == 2
    assert {r["images"] for r in records} == {12} and {r["n_test"] for r in records} == {12}


def test_the_reported_epochs_are_those_of_the_curve(chain):
    for r in manifest.records(evaluate.run(settings(chain, *ALL))):
        test, val = [p["test"] for p in r["curve"]], [p["val"] for p in r["curve"]]
        assert [p["epoch"] for p in r["curve"]] == [1, 2]
        assert (r["last"], r["peak"]) == (test[-1], max(test))
        assert r["chosen"] == test[r["chosen_epoch"] - 1] and r["val_chosen"] == max(val)
        assert sum(r["per_class"].values()) / 3 == pytest.approx(r["last"])  # classes of equal size


def test_resumed_trainings_are_not_done_again(chain, monkeypatch):
    whole = evaluate.run(settings(chain, *ALL))
    records = (whole / manifest.RECORDS).read_bytes()
    calls, train = [], trainings.train

    def dies(training, *others):
        calls.append(training.key)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return train(training, *others)

    again = settings(chain, *ALL, output=chain / "again.eval")
    monkeypatch.setattr(trainings, "train", dies)
    with pytest.raises(KeyboardInterrupt):
        evaluate.run(again)
    journal = (chain / "again.eval" / manifest.JOURNAL).read_text()
    kept = {key for key in calls if f'"shard":"{key}"' in journal}
    first = len(calls)
    evaluate.run(again)
    assert len(calls) == first + 10 - len(kept) and not kept & set(calls[first:])
    assert (chain / "again.eval" / manifest.RECORDS).read_bytes() == records


def test_several_trainings_at_once_give_the_same_records(chain):
    threads = torch.get_num_threads()
    found = []
    for count in (1, 4):
        torch.set_num_threads(count)
        out = evaluate.run(settings(chain, *ALL, output=chain / f"{count}.eval", learners=("supervised",),
                                    layers={"flag": {"epochs": 2, "batch": 4}}))
        found.append((out / manifest.RECORDS).read_bytes())
        assert torch.get_num_threads() == count
    torch.set_num_threads(threads)
    assert found[0] == found[1]


def test_a_training_killed_after_its_last_epoch_is_still_recorded(chain, monkeypatch):
    """The learner has nothing left to do then; what it measured lies beside its state."""
    whole = (evaluate.run(settings(chain, *ALL)) / manifest.RECORDS).read_bytes()
    record, calls = trainings._record, []

    def dies(*arguments):
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return record(*arguments)

    monkeypatch.setattr(trainings, "_record", dies)
    again = settings(chain, *ALL, output=chain / "again.eval")
    with pytest.raises(KeyboardInterrupt):
        evaluate.run(again)
    assert (evaluate.run(again) / manifest.RECORDS).read_bytes() == whole


def test_test_and_validation_images_come_from_the_lineage(chain):
    found = manifest.read(evaluate.run(settings(chain, *ALL)))
    names = {d.name for d in found.dependencies}
    assert names == {"clean", "protected", "purified", "ceiling", "test", "val"}
    assert found.notes["val_from"] == "its own folder"
    assert manifest.verify(chain / "data.eval", chain=True).problems == []


def test_without_validation_images_the_test_set_is_split_and_said_so(chain, tmp_path_factory):
    bare = owner(tmp_path_factory.mktemp("bare"))
    for part in ("test", "val"):
        for file in sorted((bare / part).rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
        (bare / part).rmdir()
    out = evaluate.run(settings(chain, clean=bare, folders=(bare,), test=chain / "data" / "test"))
    found, first = manifest.read(out), manifest.records(out)[0]
    assert "half of the test images" in found.notes["val_from"]
    assert first["n_test"] + first["n_val"] == 12 and min(first["n_test"], first["n_val"]) > 0


def test_what_is_missing_is_a_warning(chain):
    def missing(*names, **more):
        out = evaluate.run(settings(chain, *names, noise_control=False, output=chain / f"{len(names)}.eval", **more))
        return [text.partition(":")[0] for text in manifest.read(out).warnings]

    few = "2 seed(s)"
    none, alone = "no noise control", "no purified set and no learner that hardens another"
    assert missing("data.maps") == [none, alone, few]
    assert missing("data.maps", "data.maps.grey") == [none, "no ceiling", few]
    assert missing("data.maps", "data.maps.grey", "data.grey") == [none, few]


def test_classes_without_test_images_are_told_and_counted(chain):
    """Chance is that of the classes that a network can answer with."""
    shutil.rmtree(chain / "data" / "test" / "class1")
    made = manifest.read(evaluate.run(settings(chain, "data.maps")))
    assert any(text == "no test images of: class1" for text in made.warnings)
    assert made.notes["classes"] == ["class0", "class1", "class2"]
    asked = ReportSettings(evaluation=chain / "data.eval", output=chain / "data.report", images=False)
    setup = json.loads((report.run(asked) / "report.json").read_bytes())["setup"]
    assert setup["classes"] == 3 and setup["chance"] == pytest.approx(1 / 3, abs=1e-6)


def test_a_learner_that_hardens_another_is_an_attacker(chain, monkeypatch):
    monkeypatch.setattr(stand_ins.centroids, "counters", lambda config: "supervised", raising=False)
    assert not any("attacker" in text for text in manifest.read(evaluate.run(settings(chain, "data.maps"))).warnings)


def test_leaks_are_counted(chain):
    source = chain / "data" / "train" / "class0" / "000.png"
    (chain / "data" / "test" / "class0" / "leak.png").write_bytes(source.read_bytes())
    found = manifest.read(evaluate.run(settings(chain, *ALL)))
    assert found.notes["overlap"]["clean ∩ test"] == 1 and found.notes["overlap"]["clean ∩ validation"] == 0


def test_test_classes_must_be_known(chain):
    (chain / "data" / "test" / "class0").rename(chain / "data" / "test" / "zebra")
    with pytest.raises(UsageError, match="zebra"):
        evaluate.run(settings(chain, *ALL))


def test_sets_of_the_same_name_are_refused(chain):
    twin = chain / "b" / "data.maps.grey"
    purify.run(PurifySettings(source=chain / "data.maps", method="stand_ins.grey", output=twin))
    with pytest.raises(UsageError, match="different names"):
        evaluate.run(settings(chain, "data.maps.grey", "b/data.maps.grey"))


def test_sets_of_different_images_are_refused(chain):
    other = owner(chain / "other", each=5)
    with pytest.raises(UsageError, match="same images"):
        evaluate.run(settings(chain, "data.maps", clean=other))


def test_records_hold_no_times_and_the_manifest_has_them_apart(chain):
    out = evaluate.run(settings(chain, *ALL))
    assert "seconds" not in (out / manifest.RECORDS).read_text()
    document = json.loads((out / manifest.MANIFEST).read_bytes())
    assert len(document["predicate"]["runDetails"]["run"]["measures"]["training seconds"]) == 10


def test_equal_trainings_are_taken_over_from_another_evaluation(chain, monkeypatch):
    first = evaluate.run(settings(chain, "data.grey", output=chain / "first.eval"))  # clean, ceiling
    calls, train = [], trainings.train
    monkeypatch.setattr(trainings, "train", lambda training, *others: calls.append(1) or train(training, *others))
    whole = evaluate.run(settings(chain, *ALL, output=chain / "whole.eval"))
    assert len(calls) == 10
    reused = evaluate.run(settings(chain, *ALL, output=chain / "reused.eval", reuse=(first,)))
    assert len(calls) == 10 + 6  # noise, protected, purified
    assert (reused / manifest.RECORDS).read_bytes() == (whole / manifest.RECORDS).read_bytes()
    assert manifest.read(reused).run.measures["training seconds"].keys() == {r["key"] for r in manifest.records(reused)}


def test_what_a_learner_needs_is_asked_for_before_anything_is_trained(chain):
    """They were told by the first training that missed it, hours into an evaluation."""
    asked = settings(chain, "data.maps", learners=("stand_ins.centroids", "stand_ins.taking"))
    for call in (evaluate.run, evaluate.plan):
        with pytest.raises(UsageError, match=r"stand_ins.taking needs clean labelled images .* none were given"):
            call(asked)
        with pytest.raises(ResourceError, match="'encoder' are needed"):
            call(settings(chain, "data.maps", learners=("supervised", "fine_tuning")))
    assert not (chain / "data.eval").exists()


def test_a_dry_run_counts_what_is_there_already(chain, monkeypatch):
    def count(**more):
        found = evaluate.plan(settings(chain, *ALL, **more))
        return found.notes[0], found.shards

    assert count() == ("10 trainings of 5 sets with 2 seeds", 10)
    train, calls = trainings.train, []

    def dies(training, *others):
        calls.append(training.key)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return train(training, *others)

    with monkeypatch.context() as patch:
        patch.setattr(trainings, "train", dies)
        with pytest.raises(KeyboardInterrupt):
            evaluate.run(settings(chain, *ALL))
    there = len(earlier.recorded(chain / "data.eval"))
    before = "10 trainings of 5 sets with 2 seeds, {} of them need not be done again"
    assert 0 < there <= 4 and count() == (before.format(there), 10 - there)
    assert count(fresh=True)[1] == 10
    evaluate.run(settings(chain, *ALL))
    assert count() == (before.format(10), 0)
    elsewhere = {"output": chain / "other.eval", "reuse": (chain / "data.eval",)}
    assert count(seeds=3, **elsewhere)[1] == 5


def test_equal_trainings_are_done_once(chain, monkeypatch):
    """Twice purified by the same means, into two folders: the same pixels."""
    purify.run(PurifySettings(source=chain / "data.maps", method="stand_ins.grey", output=chain / "data.maps.again"))
    calls, train = [], trainings.train
    monkeypatch.setattr(trainings, "train", lambda training, *others: calls.append(1) or train(training, *others))
    records = manifest.records(evaluate.run(settings(chain, *ALL, "data.maps.again", seeds=1)))
    assert len(calls) == 5 and len(records) == 6
    by_folder = {r["cell"]["folder"]: r for r in records}
    twins = [by_folder[name] for name in ("data.maps.grey", "data.maps.again")]
    assert twins[0]["key"] != twins[1]["key"] and twins[0]["curve"] == twins[1]["curve"]


def test_the_attackers_own_images_and_an_encoder_reach_the_learners_that_need_them(chain):
    asked = settings(chain, "data.maps", learners=("stand_ins.centroids", "stand_ins.taking"), seeds=1)
    with pytest.raises(UsageError, match="none were given"):
        evaluate.run(asked)
    (chain / "encoder.bin").write_bytes(b"weights")
    more = {"own": chain / "data" / "val", "encoder": chain / "encoder.bin", "output": chain / "own.eval"}
    out = evaluate.run(asked.model_copy(update=more))
    records = [r for r in manifest.records(out) if r["learner"] == "stand_ins.taking"]
    assert sorted(r["cell"]["role"] for r in records) == ["clean", "protected"]
    assert {r["learner_kind"] for r in records} == {"countermeasure"}
    assert {tuple(r["notes"]["taken"]) for r in records} == {(12, "weights")}
    assert "clean ∩ own" in manifest.read(out).notes["overlap"]
