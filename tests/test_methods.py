"""The registry: folders are the lists of methods, and the contract is checked when one is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

from ue_audit import config, methods
from ue_audit.errors import UsageError

KINDS = tuple(methods.KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_names_are_the_modules_of_the_folder(kind: str) -> None:
    folder = Path(methods.__file__).parent / methods.KINDS[kind]
    files = {path.stem for path in folder.glob("*.py") if not path.name.startswith("_")}
    assert methods.names(kind) == sorted(files)


def test_listing_imports_nothing() -> None:
    script = (
        f"import sys; from ue_audit.methods import names; [names(k) for k in {KINDS}]; sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(methods.__file__).parents[1])


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in methods.names(kind)])
def test_every_method_keeps_the_contract(kind: str, name: str) -> None:
    module = methods.load(kind, name)
    assert module.__doc__, "a method opens with its idea"
    assert module.SOURCE
    assert module.Config() == module.Config(**module.Config().model_dump(mode="json")), (
        "a manifest's values are readable"
    )
    assert methods.needs(kind, name) == set(module.NEEDS)
    with pytest.raises(UsageError, match="setting"):
        methods.configure(kind, name, {"flag": {"no_such_setting": 1}})


def test_what_a_preset_a_chain_and_a_foreign_module_need() -> None:
    assert methods.needs("purifier", "avatar") == {"prior"}
    assert methods.needs("purifier", "median+jcdp-paper") == {"prior"}
    assert methods.needs("purifier", "median+jpeg") == methods.needs("purifier", "stand_ins.grey") == set()
    assert methods.needs("purifier", "median+stand_ins.primed") == {"prior"}


@pytest.mark.parametrize(
    ("kind", "stage", "name"),
    [(kind, stage, name) for kind, stage in methods.STAGE.items() for name in config.preset_names(stage)],
)
def test_every_preset_configures_its_method(kind: str, stage: str, name: str) -> None:
    chosen = methods.configure(kind, name, {})
    fields = config.load_preset(stage, name)
    assert chosen.name == fields.pop("method")
    assert {key for key, origin in chosen.origins.items() if origin == "preset"} == set(dict(config.dotted(fields)))


def test_the_layers_order() -> None:
    name = config.preset_names("purify")[0]
    key, value = next(item for item in config.load_preset("purify", name).items() if item[0] != "method")
    chosen = methods.configure("purifier", name, {"file": {key: value}, "flag": {}})
    assert chosen.origins[key] == "file", "a file is stronger than the preset the name stands for"


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_names_are_told_the_nearest(kind: str) -> None:
    known = methods.names(kind)
    if not known:
        pytest.skip(f"there is no {kind} yet")
    with pytest.raises(UsageError) as caught:
        methods.choose(kind, known[0] + "x")
    assert f"did you mean {known[0]!r}" in caught.value.hint
    with pytest.raises(UsageError):
        methods.load(kind, known[0] + "x")


class Follows:
    """A purifier that follows the budget unless its level is set."""

    @staticmethod
    def follows_eps(config: int | None) -> bool:
        return config is None


def knows(module: object, config: int | None = None, eps: float | None = None) -> str:
    return methods.knows(methods.Chosen("here", module, config, {}), eps)  # type: ignore[arg-type]


def test_who_follows_a_budget_that_it_was_told_knows_the_budget() -> None:
    assert knows(Follows(), eps=0.1) == "budget"
    assert knows(Follows(), eps=None) == knows(Follows(), config=3, eps=0.1) == "nothing"
    assert knows(object(), eps=0.1) == "nothing"


def test_what_a_module_declares_counts_and_the_most_of_a_chain() -> None:
    class Fitted(Follows):
        KNOWS = "method"

    assert knows(Fitted(), eps=0.1) == "method"
    assert methods.most_known("budget", "nothing") == "budget" and methods.most_known() == "nothing"
    assert methods.configure("purifier", "median+jpeg", {}).module.KNOWS == "nothing"


GOOD = """
from ue_audit import config
SOURCE = "here"
BUDGET = "linf"
NEEDS = ("labels",)
class Config(config.Config):
    eps: float = 0.1
def passes(config, images): return 0.0
def generate(data, config, tools): ...
"""


def test_a_foreign_module_is_loaded_by_its_dotted_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "mylab"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "ops.py").write_text(GOOD)
    monkeypatch.syspath_prepend(tmp_path)
    chosen = methods.configure("protection", "mylab.ops", {"flag": {"eps": 0.2}})
    assert (chosen.name, chosen.config.eps) == ("mylab.ops", 0.2)
    with pytest.raises(UsageError) as caught:
        methods.load("protection", "mylab.nothing")
    assert "PYTHONPATH" in caught.value.hint


def test_knowledge_that_nobody_heard_of_breaks_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "seer.py").write_text(GOOD + '\nKNOWS = "everything"\n')
    (tmp_path / "seers").mkdir()
    (tmp_path / "seer.py").rename(tmp_path / "seers" / "seer.py")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="lacks KNOWS"):
        methods.load("protection", "seers.seer")


@pytest.mark.parametrize("lacking", ["SOURCE", "BUDGET", "NEEDS", "Config", "generate", "passes"])
def test_a_module_that_breaks_the_contract_is_told_what_it_lacks(
    lacking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"lab_{lacking}").mkdir()
    (tmp_path / f"lab_{lacking}" / "__init__.py").touch()
    (tmp_path / f"lab_{lacking}" / "ops.py").write_text(
        GOOD.replace(f"{lacking} =", "X =").replace(f" {lacking}(", " X(")
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match=f"lacks {lacking}"):
        methods.load("protection", f"lab_{lacking}.ops")
