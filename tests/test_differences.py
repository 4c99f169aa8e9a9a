"""Two audits: differences with intervals that turn round, what is shared, what else differs."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import synthetic_evaluation as synthetic

from ue_audit import differences, facts, report, scores
from ue_audit.scores import Arm, Estimate
from ue_audit.settings import ReportSettings


def composed(place: Path, means: Any = None, learner: str = "supervised") -> dict[str, Any]:
    records = synthetic.records({**synthetic.MEANS, **(means or {})}, learner=learner)
    evaluation = synthetic.write(place, records)
    return report.compose(facts.gather(evaluation), None, ReportSettings(evaluation=evaluation))


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return composed(tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Another measurement of the same sets: the protection is stronger, jcdp weaker, ddpm was left out."""
    change = {("protected", "data.emn", None): 0.2, ("purified", "data.emn.jcdp", "jcdp"): 0.6}
    found = composed(tmp_path_factory.mktemp("second"), change)
    found["cells"] = [cell for cell in found["cells"] if cell["countermeasure"] != "ddpm"]
    found["countermeasures"] = [row for row in found["countermeasures"] if row["countermeasure"] != "ddpm"]
    return found


def compare(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Any]:
    return differences.compare(a, b, ("a", "b"))


def estimates(value: Any) -> Iterator[dict[str, Any]]:
    """Every {first, second, difference} in a comparison, in order of its keys."""
    if isinstance(value, dict):
        if value.keys() == {"first", "second", "difference"}:
            yield value
        else:
            for key in value:
                yield from estimates(value[key])
    elif isinstance(value, list):
        for entry in value:
            yield from estimates(entry)


def test_accuracies_differ_by_the_seeds_of_both(first: dict[str, Any], second: dict[str, Any]) -> None:
    rows = {row["name"]: row for row in compare(first, second)["accuracies"]}
    cells = [next(c for c in r["cells"] if c["role"] == "protected") for r in (first, second)]
    arms = [Arm(tuple(cell["accuracies"]), 2000) for cell in cells]
    expected = scores.effect(arms[1], arms[0])
    found = rows["emn"]["accuracy"]["difference"]
    assert found == pytest.approx(expected._asdict(), abs=1e-6)
    assert found["value"] == pytest.approx(0.2 - 0.268, abs=0.02) and found["high"] < 0
    assert set(rows) == {"clean images", "noise as strong as emn", "emn", "emn + jcdp", "clean + jcdp (ceiling)"}


def test_exchanging_the_audits_turns_every_sign_round(first: dict[str, Any], second: dict[str, Any]) -> None:
    there, back = compare(first, second), compare(second, first)
    pairs = list(zip(estimates(there), estimates(back), strict=True))
    assert len(pairs) > 8
    for a, b in pairs:
        assert (a["first"], a["second"]) == (b["second"], b["first"])
        if a["difference"] is not None:
            low, high = (None if n is None else -n + 0.0 for n in (b["difference"]["high"], b["difference"]["low"]))
            assert a["difference"] == {"value": -b["difference"]["value"] + 0.0, "low": low, "high": high}
    assert (there["only_first"], there["only_second"]) == (back["only_second"], back["only_first"])
    assert there["only_first"] == ["emn + ddpm", "clean + ddpm (ceiling)"]


def test_trainings_that_both_have_do_not_differ(first: dict[str, Any]) -> None:
    found = compare(first, first)
    zero = {"value": 0.0, "low": None, "high": None}
    for row in found["accuracies"]:
        assert row["shared"] and row["accuracy"]["difference"] == zero
    assert all(row["shared"] and row["survival"]["difference"] == zero for row in found["attacks"])
    assert found["settings"] == found["only_first"] == found["only_second"] == []
    other = copy.deepcopy(first)
    for row in other["provenance"]:
        row["digest"] = "f" * 12
    assert not any(row["shared"] for row in compare(first, other)["attacks"]), "equal figures of other images"


def notes(a: dict[str, Any], b: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for note in compare(a, b)["notes"]:
        found.setdefault(note["state"], []).append(note["text"])
    return found


def test_other_clean_images_are_named(first: dict[str, Any]) -> None:
    assert "The clean images are the same." in notes(first, first)["same"]
    other = copy.deepcopy(first)
    next(row for row in other["provenance"] if row["role"] == "clean")["digest"] = "f" * 12
    other["setup"]["images"] = 50_000
    found = notes(first, other)["differs"]
    assert found == [
        "The clean images differ: differences are not only due to the method.",
        "2,000 and 50,000 training images: differences are not only due to the method.",
    ]
    old = copy.deepcopy(first)
    for row in old["provenance"]:
        for key in ("role", "settings", "seed"):
            del row[key]
    found = notes(old, first)["unknown"]
    assert any("clean images" in text for text in found) and any("older version" in text for text in found)
    assert compare(old, first)["accuracies"][0]["name"] == "clean images", "matched by name alone"


def test_other_recipes_and_settings_are_named_once(first: dict[str, Any]) -> None:
    other = copy.deepcopy(first)
    other["setup"]["learners"][0]["recipe"]["epochs"] = 60
    next(row for row in other["provenance"] if row["name"] == "data.emn")["settings"] = {"eps": "4/255"}
    found = compare(first, other)
    assert "Learner supervised: epochs 12 → 60." in [n["text"] for n in found["notes"] if n["state"] == "differs"]
    assert {(entry["of"], *entry["changes"]) for entry in found["settings"]} >= {("emn", "eps not recorded → 4/255")}
    assert [entry["of"] for entry in found["settings"]].count("emn") == 1


def test_a_protection_is_the_same_in_folders_of_other_names(first: dict[str, Any], tmp_path: Path) -> None:
    text = json.dumps(first).replace("data.emn", "pets.emn")
    found = compare(first, json.loads(text))
    assert [row["folders"] for row in found["accuracies"] if row["name"] == "emn"] == [["data.emn", "pets.emn"]]
    assert found["only_first"] == []


def test_one_seed_has_a_difference_without_an_interval(first: dict[str, Any], tmp_path: Path) -> None:
    evaluation = synthetic.write(tmp_path, synthetic.records(seeds=1))
    one = report.compose(facts.gather(evaluation), None, ReportSettings(evaluation=evaluation))
    found = next(row for row in compare(first, one)["attacks"])
    assert found["survival"]["difference"]["value"] is not None and found["survival"]["difference"]["low"] is None


def test_two_learners_are_told_apart(first: dict[str, Any], tmp_path: Path) -> None:
    wide = composed(tmp_path, learner="wide")
    found = compare(first, wide)
    assert (
        found["accuracies"] == [] and "emn, supervised" in found["only_first"] and "emn, wide" in found["only_second"]
    )


# -- scores.difference -------------------------------------------------------------------------------------


def test_symmetric_bounds_add_as_variances_do() -> None:
    found = scores.difference(Estimate(0.8, 0.5, 1.1), Estimate(0.3, -0.1, 0.7))
    assert found == pytest.approx((0.5, 0.0, 1.0))  # sqrt(.3² + .4²) = .5
    assert scores.difference(Estimate(0.8), Estimate(0.3, 0.2, 0.4)) == (pytest.approx(0.5), None, None)


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("spread", [0.003, 0.02, 0.05])
def test_intervals_of_differences_of_survival_cover(seeds: int, spread: float) -> None:
    """Two audits with C .9, V .3 and P .7 or .5: the true difference lies inside in at least 92 of 100."""
    random, n, runs = np.random.default_rng(seeds), 2000, 4000
    bounds = []
    for p in (0.7, 0.5):
        means, between, sampling = [], [], []
        for mean in (p, 0.3, 0.9):
            draws = random.normal(mean, spread, (runs, seeds))
            shift = random.normal(0, np.sqrt(mean * (1 - mean) / n), (runs, 1))
            means.append((draws + shift).mean(1))
            between.append(draws.var(1, ddof=1) / seeds)
            sampling.append(np.full(runs, mean * (1 - mean) / n))
        low, high = scores.fieller(means, between, sampling, (seeds,) * 3)
        ratio = (means[0] - means[1]) / (means[2] - means[1])
        bounds.append((1 - ratio, 1 - high, 1 - low))
    truth = (1 - (0.5 - 0.3) / 0.6) - (1 - (0.7 - 0.3) / 0.6)
    found = [
        scores.difference(Estimate(*b), Estimate(*a))
        for a, b in zip(*(np.stack(side, 1).tolist() for side in bounds), strict=True)
    ]
    inside = np.mean([low <= truth <= high for _, low, high in found])
    assert 0.92 <= inside <= 0.99  # measured: .952 to .980
