"""From manifests to what may stand beside published figures, and how it is shown."""

from pathlib import Path
from typing import Any

import pytest
import synthetic_evaluation as synthetic

from ue_audit import beside, config, contests, published
from ue_audit.budget import Budget
from ue_audit.facts import Facts
from ue_audit.manifest import Dependency, Manifest
from ue_audit.rendering import published as shown

TEN = published.load().datasets["cifar10"].classes
MEANS: dict[tuple[str, str, str | None], float] = {
    ("clean", "train", None): 0.941,
    ("noise", "data.emn (noise of the same norm)", None): 0.94,
    ("protected", "data.emn", None): 0.23,
    ("purified", "data.emn.jpeg", "jpeg"): 0.81,
    ("ceiling", "data.jpeg", "jpeg"): 0.85,
}
JPEG = {"quality": 10, "subsampling": "4:2:0"}


def parent(name: str, uri: str) -> Dependency:
    return Dependency(name=name, uri=f"../{uri}", digest={"tree": "0" * 64})


def facts(size: int = 32, images: int = 50_000, backbone: str = "resnet18", **protect: Any) -> Facts:
    """An evaluation of the whole of CIFAR-10 by the published recipe, as its manifests have it."""
    records = synthetic.records(MEANS, classes=TEN)
    for record in records:
        record |= {"images": images, "epochs": 60, "n_test": 10_000, "learner_method": "supervised"}
        record["recipe"] = {"backbone": backbone, "augmentation": "none"}
    settings = {key: v for key, v in config.load_preset("protect", "emn-paper").items() if key != "method"}
    budget = Budget(norm="linf", limit=8 / 255)
    made = {
        "data.emn": Manifest(
            stage="protect", method="emn", config=settings, budget=budget, dependencies=[parent("source", "train")]
        ).model_copy(update=protect),
        "data.emn.jpeg": Manifest(
            stage="purify", method="jpeg", config=JPEG, dependencies=[parent("protected", "data.emn")]
        ),
        "data.jpeg": Manifest(stage="purify", method="jpeg", config=JPEG, dependencies=[parent("source", "train")]),
    }
    evaluation = Manifest(stage="evaluate", method="supervised", parameters={"size": size})
    return Facts("data", evaluation, records, {name: Path(name) for name in ("train", *made)}, made=made)


def gather(known: Facts, monkeypatch: pytest.MonkeyPatch, source: str = "a/1.png") -> dict[str, Any]:
    monkeypatch.setattr(beside.manifest, "records", lambda _: [{"source": source}])
    return beside.gather(known, contests.groups(known.records))


def test_the_published_recipe_stands_beside_published_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    found = gather(facts(), monkeypatch)
    assert found["dataset"] == "CIFAR-10" and found["not_comparable"] == []
    rows = {(row["folder"], row["source"], row["place"]): row for row in found["figures"]}
    assert {folder for folder, *_ in rows} == {"train", "data.emn", "data.emn.jpeg", "data.jpeg"}
    row = rows["data.emn", "ISS (arXiv 2301.13838)", "README"]
    assert row["published"] == pytest.approx(0.2105)
    assert row["difference"] == pytest.approx(row["accuracy"] - row["published"])
    assert row["accuracy"] == pytest.approx(0.23, abs=0.02)
    assert row["evidence"] == "said in the repository" and row["differs"] == []


def test_other_conditions_make_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    found = gather(facts(images=2000, backbone="small"), monkeypatch)
    assert found["figures"] == [] and found["dataset"] == "CIFAR-10"
    [group] = found["not_comparable"]
    assert group["cells"] == ["train", "data.emn", "data.emn.jpeg", "data.jpeg"], "noise has no published counterpart"
    assert group["because"] == ["10 x 200 images instead of 50,000", "small instead of resnet18"]
    said = "10 x 200 images instead of 50,000; small instead of resnet18"
    assert shown.line(found) == f"not comparable, because {said}"
    table = shown.published({"published": found})
    assert len(table.headers) == 2 and table.rows == [("train, data.emn, data.emn.jpeg and 1 more", said)]


def test_only_the_sets_that_differ_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    found = gather(facts(config={"surrogate": "small"}), monkeypatch)
    assert {row["folder"] for row in found["figures"]} == {"train", "data.jpeg"}
    assert [group["cells"] for group in found["not_comparable"]] == [["data.emn", "data.emn.jpeg"]]
    table = shown.published({"published": found})
    assert len(table.rows) == len(found["figures"])
    assert "data.emn, data.emn.jpeg, because emn's surrogate small instead of resnet18; emn's batch" in table.note


def test_jpeg_copies_of_a_lossless_set_are_not_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = gather(facts(), monkeypatch, source="a/1.JPG")
    assert found["dataset"] is None
    assert {reason for group in found["not_comparable"] for reason in group["because"]} == {
        "images that cannot be taken for CIFAR-10, being JPEG files"
    }


def test_an_imported_set_is_one_of_another_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    found = gather(facts(settings={"clean": "data/train"}, config={}), monkeypatch)
    [row] = [r for r in found["figures"] if r["folder"] == "data.emn" and r["source"].startswith("ISS")]
    assert row["differs"] == ["protected by another tool"]


def test_a_missing_manifest_is_no_match(monkeypatch: pytest.MonkeyPatch) -> None:
    known = facts()
    del known.made["data.emn"]
    found = gather(known, monkeypatch)
    apart = {tuple(group["cells"]): group["because"] for group in found["not_comparable"]}
    assert apart == {("data.emn", "data.emn.jpeg"): ["how the images were made is not known: a manifest is missing"]}


def test_a_table_row_says_spread_runs_and_what_differs() -> None:
    figure = {
        "role": "clean", "folder": "train", "countermeasure": None, "learner": "supervised", "reading": "peak",
        "accuracy": 0.935, "published": 0.9401, "spread": 0.0015, "runs": 5, "difference": -0.0051,
        "source": "BridgePure (arXiv 2412.21061)", "place": "CIFAR-10", "evidence": "measured anew", "differs": [],
    }  # fmt: skip
    found = {"dataset": "CIFAR-10", "figures": [figure], "not_comparable": []}
    [row] = shown.published({"published": found}).rows
    assert row[:4] == ("train (best epoch)", "93.5", "94.0 ± 0.1 (n = 5)", "−0.5")
    assert "1 comparable; farthest apart: train (best epoch), 93.5 here, 94.0 in BridgePure" in shown.line(found)
