"""What attackers laid out, from the manifests and records of an audit without trainings."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import synthetic_evaluation as synthetic

from ue_audit import attacker, contests, facts, manifest, outlay, shards
from ue_audit.facts import Facts


@pytest.fixture
def known(tmp_path: Path) -> Facts:
    """Trainings took 40 s each, purifications 7 s of them purifying, the prior 181 s."""
    found = facts.gather(synthetic.write(tmp_path))
    run = found.evaluation.run.model_copy(
        update={"measures": {"training seconds": {record["key"]: 40.0 for record in found.records}}}
    )
    spent = {"seconds": 20.0, "measures": {"purifying seconds": 7.0}}
    made = {name: m.model_copy(update={"run": m.run.model_copy(update=spent)}) for name, m in found.made.items()}
    return replace(found, evaluation=found.evaluation.model_copy(update={"run": run}), made=made)


def spent(known: Facts, folder: str = "data.emn.jcdp", learner: str = "supervised") -> dict[str, Any]:
    (contest,) = contests.gather(contests.groups(known.records), known.parents, known.settings)
    treated = next(g for g, _ in contest.attacks if (g.folder, g.learner) == (folder, learner))
    return outlay.of(known, contest, treated)


def noted(known: Facts, folder: str, **notes: Any) -> Facts:
    made = known.made[folder]
    return replace(known, made=known.made | {folder: made.model_copy(update={"notes": made.notes | notes})})


def evaluated(known: Facts, **update: Any) -> Facts:
    return replace(known, evaluation=known.evaluation.model_copy(update=update))


def test_a_purifier_with_a_prior(known: Facts) -> None:
    assert spent(known) == {
        "prior": "raw.prior.ckpt", "raw_images": 4000, "start": None, "own_images": 0, "overlap": "disjoint",
        "weights": [], "knows": "budget", "device": "cpu",
        "seconds": {"prior": 181.0, "purification": 7.0, "training": 40.0, "total": 228.0, "extra": 188.0},
    }  # fmt: skip


def test_a_prior_that_the_purifier_did_not_need_is_not_paid_for(tmp_path: Path, known: Facts) -> None:
    found = noted(known, "data.emn.ddpm", attacker={"needs": [], "knows": "nothing"})
    found = replace(found, priors={k: v for k, v in known.priors.items() if k != "data.emn.ddpm"})
    cheap = spent(found, "data.emn.ddpm")
    assert (cheap["raw_images"], cheap["overlap"], cheap["knows"]) == (0, None, "nothing")
    assert cheap["seconds"] == {
        "prior": 0.0, "purification": 7.0, "training": 40.0, "total": 47.0, "extra": 7.0,
    }  # fmt: skip


def test_an_older_manifest_is_asked_by_the_method_that_made_it(known: Facts) -> None:
    old = {key: value for key, value in known.made["data.emn.jcdp"].notes.items() if key != "attacker"}
    made = known.made["data.emn.jcdp"].model_copy(update={"notes": old})
    assert attacker.needs(made) == ("prior",) and attacker.needs(made.model_copy(update={"method": "jpeg"})) == ()
    assert attacker.needs(made.model_copy(update={"method": "mylab.gone"})) == ("prior",)  # by what it was given
    assert attacker.knows(made) == "nothing"
    for assumed, knows in ((True, "nothing"), (False, "budget")):
        eps = {"value": "8/255", "assumed": assumed}
        assert attacker.knows(made.model_copy(update={"notes": old | {"eps": eps}})) == knows
        assert attacker.knows(made.model_copy(update={"notes": old | {"jcdp": {"eps": eps}}})) == knows


def test_pretrained_weights_that_guide_are_named(known: Facts) -> None:
    guided = noted(known, "data.emn.jcdp", perceptual_guide={"name": "lpips-alex", "sha256": "0"})
    assert spent(guided)["weights"] == ["lpips-alex"]


@pytest.mark.parametrize(("found", "says"), [({"clean ∩ prior": 3}, "shared"), ({}, "not known"), (None, "not known")])
def test_the_overlap_is_the_answer_of_the_check(known: Facts, found: Any, says: str) -> None:
    assert spent(evaluated(known, notes=known.evaluation.notes | {"overlap": found}))["overlap"] == says


def test_of_two_priors_only_one_was_compared(known: Facts) -> None:
    other = known.priors["data.emn.ddpm"].model_copy(update={"sha256": "1" * 64})
    assert spent(replace(known, priors=known.priors | {"data.emn.ddpm": other}))["overlap"] == "not known"


def test_a_prior_that_was_fine_tuned_names_its_start(tmp_path: Path, known: Facts) -> None:
    start = shards.seal_file(
        tmp_path / "big.ckpt", b"big", manifest.statement(
            stage="train-prior", method="ddpm", counts={"images": 50_000}, run=manifest.RunDetails(seconds=9000.0)
        ),
    )  # fmt: skip
    place = tmp_path / "raw.prior.ckpt"
    before = manifest.read(place)
    parent = manifest.dependency("start", start, output=place, digest=manifest.file_sha256(start))
    tuned = before.model_copy(update={"dependencies": [parent], "notes": {"start": "big.ckpt"}})
    shards.seal_file(place, b"weights", tuned)
    found = spent(facts.gather(tmp_path / "data.eval"))
    assert found["start"] == {"name": "big.ckpt", "images": 50_000, "seconds": 9000.0}
    assert (found["raw_images"], found["overlap"], found["seconds"]["prior"]) == (4000, "not known", 181.0)
    start.unlink()
    assert spent(facts.gather(tmp_path / "data.eval"))["start"] == {"name": "big.ckpt", "images": None, "seconds": None}


def test_a_prior_made_anew_after_the_purification_is_another_one(tmp_path: Path, known: Facts) -> None:
    place = tmp_path / "raw.prior.ckpt"
    shards.seal_file(place, b"others", manifest.read(place).model_copy(update={"counts": {"images": 7}}))
    found = spent(facts.gather(tmp_path / "data.eval"))
    assert (found["prior"], found["raw_images"], found["seconds"]["prior"]) == (None, None, None)


def test_without_manifests_nothing_is_known_of_a_purifier(known: Facts) -> None:
    bare = spent(replace(known, made={}, priors={}))
    assert (bare["raw_images"], bare["weights"], bare["knows"], bare["own_images"]) == (None, None, None, 0)
    assert bare["seconds"] == {
        "prior": None, "purification": None, "training": 40.0, "total": 40.0, "extra": None,
    }  # fmt: skip


def hardened(known: Facts, seconds: float, **more: Any) -> Facts:
    """With a learner that hardens the victim, its trainings of so many seconds."""
    plain = [{"learner_method": "supervised"} | r for r in known.records]
    hard = {"learner": "at", "learner_kind": "countermeasure", "learner_method": "at", "counters": "supervised"} | more
    own = [r | hard | {"key": f"at {r['key']}"} for r in plain if r["cell"]["role"] in ("clean", "protected")]
    run = known.evaluation.run
    kept = run.measures["training seconds"] | {r["key"]: seconds for r in own}
    measured = known.evaluation.model_copy(
        update={"run": run.model_copy(update={"measures": {"training seconds": kept}})}
    )
    return replace(known, records=[*plain, *own], evaluation=measured)


def test_a_learner_costs_what_it_takes_above_its_victim(known: Facts) -> None:
    found = spent(hardened(known, 100.0), "data.emn", "at")
    assert (found["raw_images"], found["own_images"], found["weights"], found["knows"]) == (0, 0, [], "nothing")
    assert found["seconds"] == {
        "prior": 0.0, "purification": 0.0, "training": 100.0, "total": 100.0, "extra": 60.0,
    }  # fmt: skip
    assert spent(hardened(known, 30.0), "data.emn", "at")["seconds"]["extra"] == 0.0


def test_own_images_and_an_encoder_are_part_of_the_price(known: Facts) -> None:
    needy = hardened(known, 50.0, needs=["labels", "own", "encoder"], notes={"own_images": 500}, knows="method")
    needy = evaluated(needy, settings={"encoder": "weights/clip.pt"})
    found = spent(needy, "data.emn", "at")
    assert (found["own_images"], found["overlap"], found["weights"]) == (500, "not known", ["clip.pt"])
    assert found["knows"] == "method"
    apart = evaluated(needy, notes=needy.evaluation.notes | {"overlap": {"clean ∩ own": 0}})
    assert spent(apart, "data.emn", "at")["overlap"] == "disjoint"


def test_runs_that_differ_in_nothing_but_the_seed_are_alike(known: Facts) -> None:
    first = known.made["data.emn.jcdp"]
    again = {f".s{k}": first.model_copy(update={"seed": k}) for k in (1, 2)}
    other = {".t": first.model_copy(update={"seed": 3, "config": {"t_purify": 9}}), ".copy": first}
    folders = {f"data.emn.jcdp{end}": m for end, m in (again | other).items()}
    place = known.folders["data.emn.jcdp"]
    known = replace(
        known,
        made=known.made | folders,
        folders=known.folders | dict.fromkeys(folders, place),
        priors=known.priors | dict.fromkeys(folders, known.priors["data.emn.jcdp"]),
    )
    assert known.alike("data.emn.jcdp") == ["data.emn.jcdp", "data.emn.jcdp.s1", "data.emn.jcdp.s2"]
    assert known.alike("data.emn") == known.alike("train") == []


def again(known: Facts, place: Path, method: str, **how: Any) -> Facts:
    """With data.emn.jcdp purified once more, in 3 of 5 seconds, and trained on."""
    folder = synthetic.purified_again(place, "data.emn.jcdp", method, **how)
    made = manifest.read(folder)
    run = made.run.model_copy(update={"seconds": 5.0, "measures": {"purifying seconds": 3.0}})
    kept = known.evaluation.run.measures["training seconds"]
    chained = [
        r | {"cell": {"role": "purified", "folder": folder.name, "countermeasure": f"jcdp+{method}"}}
        for r in known.records
        if r["cell"]["folder"] == "data.emn.jcdp"
    ]
    assert all(r["key"] in kept for r in chained)
    prior = how.get("prior")
    return replace(
        known,
        records=[*known.records, *chained],
        folders=known.folders | {folder.name: folder},
        roles=known.roles | {folder.name: "purified"},
        made=known.made | {folder.name: made.model_copy(update={"run": run})},
        priors=known.priors | ({folder.name: manifest.read(prior)} if prior else {}),
    )


def test_a_set_that_was_purified_twice_costs_both(tmp_path: Path, known: Facts) -> None:
    guided = noted(known, "data.emn.jcdp", perceptual_guide={"name": "lpips-alex", "sha256": "0"})
    found = spent(again(guided, tmp_path, "jpeg"), "data.emn.jcdp.jpeg")
    assert (found["prior"], found["raw_images"], found["overlap"]) == ("raw.prior.ckpt", 4000, "disjoint")
    assert (found["weights"], found["knows"], found["device"]) == (["lpips-alex"], "budget", "cpu")
    assert found["seconds"] == {
        "prior": 181.0, "purification": 10.0, "training": 40.0, "total": 231.0, "extra": 191.0,
    }  # fmt: skip


def test_a_prior_that_purified_twice_is_paid_once_and_another_one_too(tmp_path: Path, known: Facts) -> None:
    same = again(known, tmp_path, "ddpm", needs=("prior",), prior=tmp_path / "raw.prior.ckpt")
    found = spent(same, "data.emn.jcdp.ddpm")
    assert (found["raw_images"], found["seconds"]["prior"], found["overlap"]) == (4000, 181.0, "disjoint")
    other = known.priors["data.emn.jcdp"].model_copy(update={"sha256": "1" * 64, "subject": "more.ckpt"})
    apart = replace(same, priors=same.priors | {"data.emn.jcdp.ddpm": other})
    found = spent(apart, "data.emn.jcdp.ddpm")
    assert (found["prior"], found["raw_images"]) == ("raw.prior.ckpt and more.ckpt", 8000)
    assert (found["seconds"]["prior"], found["overlap"]) == (362.0, "not known")
    raw = manifest.Dependency(name="raw", uri="raw", digest={"tree": "7"})
    one = [m.model_copy(update={"dependencies": [raw]}) for m in (known.priors["data.emn.jcdp"], other)]
    shared = replace(same, priors=same.priors | {"data.emn.jcdp": one[0], "data.emn.jcdp.ddpm": one[1]})
    assert spent(shared, "data.emn.jcdp.ddpm")["raw_images"] == 4000  # of the same images


def test_a_step_that_is_gone_leaves_the_price_open(tmp_path: Path, known: Facts) -> None:
    both = again(known, tmp_path, "jpeg")
    gone = replace(both, made={name: m for name, m in both.made.items() if name != "data.emn.jcdp"})
    found = spent(gone, "data.emn.jcdp.jpeg")
    assert (found["raw_images"], found["weights"], found["knows"]) == (None, None, None)
    assert (found["seconds"]["purification"], found["seconds"]["extra"]) == (None, None)
    without = replace(both, made={name: m for name, m in both.made.items() if name != "data.emn"})
    assert spent(without, "data.emn.jcdp.jpeg")["seconds"]["extra"] == 191.0  # the protected set is no step of it


def test_the_settings_of_all_steps_are_told(tmp_path: Path, known: Facts) -> None:
    settings = again(known, tmp_path, "jpeg").settings
    assert settings["data.emn.jcdp"] == {} and settings["data.emn.jcdp.jpeg"] == {"1 jcdp": {}, "2 jpeg": {}}


def test_what_the_training_of_an_imported_prior_took_is_not_known(known: Facts) -> None:
    """The seconds in its manifest are those of the import."""
    noted = {name: m.model_copy(update={"notes": {"imported": True}, "counts": {}}) for name, m in known.priors.items()}
    found = spent(replace(known, priors=noted))
    assert (found["raw_images"], found["seconds"]["prior"], found["seconds"]["extra"]) == (None, None, None)
    assert found["seconds"]["total"] == 47.0  # as far as it is known
