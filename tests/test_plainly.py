"""The verdict for readers who do not know the field: true to the figures, and something for every outcome."""

from pathlib import Path
from typing import Any

import pytest
import synthetic_evaluation as synthetic

from ue_audit import composing, facts, methods, plainly
from ue_audit.rendering.figures import percent, share
from ue_audit.settings import ReportSettings

JCDP = ("purified", "data.emn.jcdp", "jcdp")
DDPM = ("purified", "data.emn.ddpm", "ddpm")


def report(place: Path, seeds: int = 3, **means: float | None) -> dict[str, Any]:
    """Of an audit whose cells have these accuracies; None leaves a cell away."""
    place.mkdir(parents=True, exist_ok=True)
    names = {"clean": 0, "protected": 2, "jcdp": 3, "ddpm": 4}
    cells = list(synthetic.MEANS)
    changed = {cells[names[name]]: mean for name, mean in means.items()}
    asked = {cell: changed.get(cell, mean) for cell, mean in synthetic.MEANS.items()}
    kept = {cell: mean for cell, mean in asked.items() if mean is not None}
    evaluation = synthetic.write(place, synthetic.records(kept, seeds))
    return composing.compose(facts.gather(evaluation), None, ReportSettings(evaluation=evaluation))


def test_it_says_the_figures_of_the_report(tmp_path: Path) -> None:
    found = report(tmp_path)
    cells = {(cell["role"], cell["countermeasure"]): cell["accuracy"]["value"] for cell in found["cells"]}
    chosen = next(row for row in found["countermeasures"] if row["chosen"])
    network, attacker, meaning = found["verdict"]["plain"]
    for role, name in (("clean", None), ("protected", None)):
        assert f"{percent(cells[role, name])} %" in network
    assert "(data.emn)" in network and network.endswith("Guessing gives 25.0 %.")
    assert attacker.startswith("An attacker who has an image generator, trained on other pictures, repaint the images")
    after, back = percent(cells["purified", "jcdp"]), share(chosen["recovery"]["value"])
    assert f"(jcdp) gets {after} % right: {back} [" in attacker
    assert attacker.endswith("4,000 unprotected pictures of the same kind, and 3 min 1 s beside the training.")
    assert meaning == plainly.MEANING[found["verdict"]["grade"]]


@pytest.mark.parametrize(
    ("means", "grade", "says"),
    [
        ({"jcdp": 0.86}, "F", "does not keep anybody from training on these images"),
        ({"jcdp": 0.67, "ddpm": 0.6}, "D", "spoils training a little"),
        ({"jcdp": 0.55, "ddpm": 0.5}, "C", "a part of what the images are worth"),
        ({"jcdp": 0.40, "ddpm": 0.3}, "B", "no guarantee"),
        ({"jcdp": 0.28, "ddpm": 0.28}, "A", "no guarantee"),
        ({"protected": 0.82}, None, "nothing to rely on, and nothing to undo"),
        ({"jcdp": None, "ddpm": None}, None, "Nobody tried to undo it here"),
        ({"seeds": 2}, None, "already this shows that the protection can be undone"),
        ({"seeds": 1, "jcdp": 0.3, "ddpm": 0.3}, None, "too little to rely on"),
    ],
)
def test_every_outcome_has_a_meaning(tmp_path: Path, means: dict[str, Any], grade: str | None, says: str) -> None:
    verdict = report(tmp_path, **means)["verdict"]
    cautious = verdict["plain"][-1].startswith("Read all of this with care")
    assert verdict["grade"] == grade and says in verdict["plain"][-1 - cautious]
    assert cautious == ("seeds" in means or means.get("protected") == 0.82)
    assert not any("safe" in sentence for sentence in verdict["plain"])


def test_checks_that_fail_are_named_and_others_are_not() -> None:
    checks = [{"name": name, "state": state} for name, state in (("A", "fail"), ("B", "ok"), ("C", "warn"))]
    assert plainly.caution(checks[1:]) == []
    assert plainly.caution(checks) == [
        "Read all of this with care: what stands below under A can make it wrong."
    ]  # fmt: skip


def test_a_wide_interval_is_no_proof_of_anything(tmp_path: Path) -> None:
    """Three seeds far apart: a survival of two thirds whose lower end is an F."""
    cells = [JCDP, DDPM]
    records = [
        r | ({"last": r["last"] + (-0.3, 0.0, 0.3)[r["seed"]]} if tuple(r["cell"].values()) in cells else {})
        for r in synthetic.records(synthetic.MEANS | dict.fromkeys(cells, 0.47))
    ]
    evaluation = synthetic.write(tmp_path, records)
    verdict = composing.compose(facts.gather(evaluation), None, ReportSettings(evaluation=evaluation))["verdict"]
    assert verdict["survival"]["value"] > 0.5 and verdict["grade"] in ("F", None)
    assert any(text in verdict["plain"][-1] for text in ("too uncertain", "too little"))


def test_several_sets_are_told_apart(tmp_path: Path) -> None:
    known = facts.gather(synthetic.write(tmp_path))
    copies = [
        r | {"key": f"uc {r['key']}", "cell": r["cell"] | {"folder": r["cell"]["folder"].replace("emn", "uc")}}
        for r in known.records
        if "emn" in r["cell"]["folder"]
    ]
    both = facts.Facts(**vars(known) | {"records": [*known.records, *copies]})
    plain = composing.compose(both, None, ReportSettings(evaluation=tmp_path / "data.eval"))["verdict"]["plain"]
    assert "the set that is undone most. An attacker gets right, on each: data.emn " in plain[-1]
    assert ", data.uc " in plain[-1] and plain[-1].count("(jcdp, grade F)") == 2


def test_every_attack_that_was_tried_and_every_term_is_told(tmp_path: Path) -> None:
    words = {row["word"]: row["means"] for row in report(tmp_path)["words"]}
    assert {"survival", "recovery", "ceiling", "frontier", "prior", "seed"} < set(words)
    assert words["ddpm"] == "somebody has an image generator, trained on other pictures, repaint the images a little"
    assert words["jcdp"].startswith("somebody has an image generator")


@pytest.mark.parametrize("kind", ["purifier", "learner"])
def test_every_method_that_attacks_says_what_it_does(kind: str) -> None:
    for name in methods.names(kind):
        if kind == "purifier" or hasattr(methods.load(kind, name), "counters"):
            (phrase,) = methods.in_words(kind, name)
            assert name not in ("jcdp", "ddpm") or "generator" in phrase
            assert not phrase.startswith(("treats", "trains with ")) and phrase[0].islower() and phrase[-1] != "."


def test_a_chain_a_preset_and_a_method_of_ones_own_are_put_into_words() -> None:
    assert methods.in_words("purifier", "median+jpeg") == [
        "smooths the images with a median filter", "saves the images again as JPEG files of very low quality",
    ]  # fmt: skip
    assert methods.in_words("purifier", "jcdp-paper") == methods.in_words("purifier", "jcdp")
    assert methods.in_words("purifier", "mylab.blur") == ["treats the images with mylab.blur"]
    assert methods.in_words("learner", "mylab.robust") == ["trains with mylab.robust"]
