"""presets/published.yaml: every entry validates, and what it names of ours exists and is the published setting."""

from collections.abc import Iterator
from typing import Any

import pytest

from ue_audit import config, methods, published
from ue_audit.errors import UsageError

FOUND = published.load()
RECIPES = [
    pytest.param(kind, recipe, id=f"{group}.{name}")
    for kind, group in (("protection", "protections"), ("purifier", "purifiers"), ("learner", "learners"))
    for name, recipe in getattr(FOUND, group).items()
]


def figures(**conditions: Any) -> Iterator[published.Figure]:
    """The figures of these conditions, protection and purifier among them."""
    for figure in FOUND.figures():
        known = figure.at.model_dump() | {"protection": figure.protection, "purifier": figure.purifier}
        if all(known[key] == value for key, value in conditions.items()):
            yield figure


@pytest.mark.parametrize(("kind", "recipe"), RECIPES)
def test_every_method_preset_and_setting_exists(kind: str, recipe: published.Recipe) -> None:
    if recipe.foreign is not None:
        assert not recipe.preset and not recipe.settings and recipe.foreign
        return
    assert recipe.method in methods.names(kind)
    stage = methods.STAGE[kind]
    if recipe.preset is not None:
        assert config.load_preset(stage, recipe.preset)["method"] == recipe.method
    chosen = methods.configure(kind, recipe.method, {"file": recipe.fields(stage)})  # refuses unknown keys and values
    if kind == "protection":
        given = {norm: limit for norm in ("linf", "l2", "l0") if (limit := getattr(recipe, norm)) is not None}
        norm = chosen.module.BUDGET
        assert given == ({} if norm == "none" else {norm: pytest.approx(methods.limit(chosen.module, chosen.config))})


def test_every_figure_has_a_source_and_is_told_apart() -> None:
    keys = [(f.at.model_dump_json(), f.protection, f.purifier) for f in FOUND.figures()]
    assert len(keys) > 400 and len(set(keys)) == len(keys)
    assert {f.at.source for f in FOUND.figures()} == set(FOUND.sources), "no source without figures"
    used = {("purifiers", f.purifier) for f in FOUND.figures()} | {("learners", f.at.learner) for f in FOUND.figures()}
    used |= {("protections", f.protection) for f in FOUND.figures()} | {("marks", f.at.mark) for f in FOUND.figures()}
    assert all((group, name) in used for group in ("purifiers", "learners", "protections", "marks")
               for name in getattr(FOUND, group))  # fmt: skip


@pytest.mark.parametrize(
    ("value", "conditions"),
    [  # read off the tables once more, by hand
        (95.3, {"place": "Table 1", "dataset": "cifar10", "protection": "clean", "purifier": "none"}),
        (41.0, {"place": "Table 1", "dataset": "svhn", "protection": "tap", "purifier": "none"}),
        (67.8, {"place": "Table 1", "dataset": "cifar100", "protection": "emn_class", "purifier": "jcdp"}),
        (49.2, {"place": "Table 1", "dataset": "cifar10", "protection": "remn", "learner": "adversarial"}),
        (66.2, {"place": "Table 3", "protection": "lsp", "purifier": "posterize"}),
        (85.7, {"place": "Table 4", "protection": "cp_byol", "purifier": "jcdp", "dataset": "cifar10"}),
        (54.1, {"place": "Table 5", "dataset": "cifar100", "prior": "SVHN", "protection": "lsp"}),
        (91.9, {"place": "Table 6, fine-tuned, 10,000 steps", "dataset": "cifar10", "purifier": "ddpm"}),
        (36.55, {"source": "iss", "protection": "ops", "purifier": "none"}),
        (58.60, {"source": "bridgepure", "protection": "ops", "purifier": "jcdp", "dataset": "cifar10"}),
        (7.59, {"source": "bridgepure", "protection": "ops", "learner": "adversarial_8", "dataset": "cifar100"}),
        (84.9, {"source": "bridgepure", "protection": "tap", "own": 4000}),
    ],
)
def test_figures_are_those_of_the_tables(value: float, conditions: dict[str, Any]) -> None:
    [figure] = figures(**conditions)
    assert figure.value == pytest.approx(value / 100)


def test_a_spread_is_one_of_accuracies() -> None:
    [figure] = figures(source="bridgepure", protection="clean", dataset="cifar10", learner="resnet18")
    assert (figure.value, figure.spread, figure.at.runs) == (pytest.approx(0.9401), pytest.approx(0.0015), 5)
    assert all(f.spread is None or 0 < f.spread < 0.1 for f in FOUND.figures())


def test_data_sets_have_as_many_names_as_classes_and_no_two_the_same() -> None:
    numbers = {name: len(dataset.classes) for name, dataset in FOUND.datasets.items() if dataset.classes}
    assert numbers == {"cifar10": 10, "cifar100": 100, "svhn": 10, "stl10": 10, "pets": 37}
    known = [(d.size, frozenset(d.classes)) for d in FOUND.datasets.values() if d.classes]
    assert len(set(known)) == len(known)
    assert all(len(set(d.classes)) == len(d.classes) for d in FOUND.datasets.values())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"marks": {}}, "marks: S"),
        ({"learners": {"resnet18": {"title": "x"}}}, "expected `method` or `foreign`"),
        ({"tables": [{"at": {}, "figures": {}}]}, "source"),
    ],
)
def test_a_damaged_file_is_refused(change: dict[str, Any], says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = config.load_yaml(config.presets_root() / published.FILE)
    monkeypatch.setattr(published, "load_yaml", lambda _: whole | change)
    with pytest.raises(UsageError, match=says):
        published.load.__wrapped__()


def test_the_file_opens_with_how_it_is_read() -> None:
    assert (config.presets_root() / published.FILE).read_text().startswith("# Published accuracies")
