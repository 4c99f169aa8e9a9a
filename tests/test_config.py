"""Configuration: fractions, YAML without traps, layers and origins, presets."""

import contextlib
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

from ue_audit import config
from ue_audit.config import Config, Levels
from ue_audit.errors import AuditError, UsageError
from ue_audit.settings import EvaluateSettings


class Inner(Config):
    depth: int = 1


class Model(Config):
    eps: Levels = Field(8 / 255, gt=0, le=1)
    steps: int = Field(10, ge=1)
    flip: bool = True
    inner: Inner = Inner()


# -- fractions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"), [("8/255", 8 / 255), (" 1 / 4 ", 0.25), ("0.5/255", 0.5 / 255), (0.03, 0.03), ("1e-3", 1e-3)]
)
def test_fractions_are_read(text: object, value: float) -> None:
    assert Model(eps=text).eps == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("text", ["8/0", "a/255", "/", "8/255/2", "nan", "inf", "-8/255", "9/2"])
def test_what_is_no_share_of_a_pixel_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        config.resolve(Model, {"flag": {"eps": text}}, "x")


@given(st.one_of(st.integers(1, 510).map(lambda halves: halves / 2 / 255), st.floats(1e-6, 1.0)))
def test_what_a_manifest_shows_is_the_value_that_was_used(value: float) -> None:
    assert Model(eps=config.show_fraction(value)).eps == value


@pytest.mark.parametrize(
    ("value", "shown"), [(8 / 255, "8/255"), (0.5 / 255, "0.5/255"), (0.0313, "0.0313"), (1.0, "255/255")]
)
def test_fractions_are_shown_where_they_are_exact(value: float, shown: str) -> None:
    assert config.show_fraction(value) == shown


def test_a_manifest_reads_like_the_papers() -> None:
    assert Model().model_dump(mode="json")["eps"] == "8/255"


# -- YAML --------------------------------------------------------------------------------------------------

TRAPS = {
    "a: 1\na: 2": "twice",
    "a: &x [1]\nb: *x": "aliases",
    "a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]": "aliases",
    "- 1": "key: value",
    "3": "key: value",
    "1: x": "key: value",
    "no: 1": "key: value",  # YAML reads False
    "a: [": "YAML",
    "a: !!python/object/apply:os.system [echo]": "YAML",
    "\x00": "YAML",
    "? {a: b}\n: c": "YAML",
    "a: {b: 1, b: 2}": "twice",
    "a: " + "[" * 3000: "YAML",
}


@pytest.mark.parametrize("text", TRAPS, ids=lambda text: repr(text)[:30])
def test_traps_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        config.load_yaml(tmp_path / "x.yaml")
    assert TRAPS[text] in caught.value.message and "x.yaml" in caught.value.message


@pytest.mark.parametrize("data", [b"a: " + b"x" * 2**20, b"\xff\xfe\xff"])
def test_large_or_undecodable_files(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_bytes(data)
    with pytest.raises(UsageError):
        config.load_yaml(tmp_path / "x.yaml")


PRESETS = sorted(config.presets_root().rglob("*.yaml"))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: f"{path.parent.name}/{path.stem}")
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_files_saved_on_windows_say_the_same(mark: bytes, path: Path, tmp_path: Path) -> None:
    """Lines that end in CR LF, with and without a byte order mark, also in strings over several lines."""
    (tmp_path / "x.yaml").write_bytes(mark + path.read_bytes().replace(b"\n", b"\r\n"))
    if path.stat().st_size < config.YAML_BYTES // 2:
        assert config.load_yaml(tmp_path / "x.yaml") == config.load_yaml(path)


def test_another_encoding_is_told(tmp_path: Path) -> None:
    for encoding in ("utf-16", "cp1252"):
        (tmp_path / "x.yaml").write_bytes("name: für\r\n".encode(encoding))
        with pytest.raises(UsageError, match="x.yaml: not a YAML mapping: 'utf-8' codec"):
            config.load_yaml(tmp_path / "x.yaml")


@pytest.mark.parametrize("name", ["missing.yaml", "."])
def test_unreadable_files(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read"):
        config.load_yaml(tmp_path / name)


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("# only a comment\n")
    assert config.load_yaml(tmp_path / "x.yaml") == {}


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(st.text(), st.text("abc:[]{}&*!?-|>%@`'\"#,\n 0159._"), st.binary().map(lambda b: b.decode("latin-1")))
)
def test_no_document_causes_anything_but_an_audit_error(text: str) -> None:
    with contextlib.suppress(AuditError):
        config.resolve(Model, {"file": config._mapping(text.encode("utf-8", "surrogatepass"), "x")}, "x")


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=3))
def test_no_set_causes_anything_but_an_audit_error(items: list[str]) -> None:
    with contextlib.suppress(AuditError):
        config.resolve(Model, {"flag": config.parse_set(items)}, "x")


@pytest.mark.parametrize(
    ("items", "values"),
    [
        (["a=1", "b=8/255", "c=[x, y]"], {"a": 1, "b": "8/255", "c": ["x", "y"]}),
        (["a=b=c"], {"a": "b=c"}),
        (["a="], {"a": None}),
        (["a=1", "a=2"], {"a": 2}),
        (["flip=false"], {"flip": False}),
    ],
)
def test_set(items: list[str], values: dict[str, Any]) -> None:
    assert config.parse_set(items) == values


@pytest.mark.parametrize("item", ["a", "=1", "", "a=[", "a=1\nb: ["])
def test_set_that_cannot_be_read(item: str) -> None:
    with pytest.raises(UsageError, match="--set"):
        config.parse_set([item])


# -- layers ------------------------------------------------------------------------------------------------


def test_the_strongest_layer_wins_and_every_origin_is_kept() -> None:
    layers = {"preset": {"eps": "4/255", "steps": 3}, "file": {"steps": 4, "inner": {"depth": 2}}, "flag": {"steps": 5}}
    made, origins = config.resolve(Model, layers, "x")
    assert made == Model(eps="4/255", steps=5, inner={"depth": 2})
    assert origins == {"eps": "preset", "steps": "flag", "flip": "default", "inner": "file", "inner.depth": "file"}


def test_dotted_keys_reach_inside_and_leave_the_rest() -> None:
    below, above = {"a": {"b": 1, "c": 2}, "d": 3}, config.nest({"a.b": 5, "a.e.f": 6})
    assert config.overlay(below, above) == {"a": {"b": 5, "c": 2, "e": {"f": 6}}, "d": 3}
    assert below == {"a": {"b": 1, "c": 2}, "d": 3}, "the layers themselves are untouched"


def test_too_many_dots() -> None:
    with pytest.raises(UsageError, match="dots"):
        config.nest({"a." * 5000: 1})


def test_all_mistakes_are_told_at_once_with_the_nearest_key() -> None:
    layers = {"file": {"epss": 1, "steps": 0}, "flag": {"inner.deph": 2, "flip": "perhaps"}}
    with pytest.raises(UsageError) as caught:
        config.resolve(Model, layers, "protection 'emn'")
    told = "\n".join(caught.value.details)
    assert "protection 'emn': 4 setting(s)" in caught.value.message
    parts = ("epss: unknown key; did you mean 'eps'", "steps = 0 (file)", "inner.deph", "'depth'", "flip = 'perhaps'")
    assert all(part in told for part in parts)


def test_configurations_are_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        Model().steps = 3  # type: ignore[misc]


# -- presets -----------------------------------------------------------------------------------------------

STAGES = ("protect", "train-prior", "purify", "evaluate", "audits")
PRESETS = [(stage, name) for stage in STAGES for name in config.preset_names(stage)]


@pytest.mark.parametrize(("stage", "name"), PRESETS)
def test_every_preset_opens_with_its_manual(stage: str, name: str) -> None:
    text = (config.presets_root() / stage / f"{name}.yaml").read_text()
    comment = re.match(r"(#.*\n)+", text)
    assert comment, "a preset opens with what it is, what it costs and the command"
    assert not re.search(r"^(seed|device):", text, re.M), "a preset names no seed and no device"
    assert config.load_preset(stage, name) is not None


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        config.load_preset("audits", "standrad")
    assert "did you mean 'standard'" in caught.value.hint


def test_presets_lie_in_the_package_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel has them inside, a source tree beside the package; neither is an error that says what to do."""
    package = tmp_path / "site" / "ue_audit"
    package.mkdir(parents=True)
    monkeypatch.setattr(config, "__file__", str(package / "config.py"))
    with pytest.raises(UsageError, match="missing"):
        config.presets_root()
    (tmp_path / "site" / "presets").mkdir()
    assert config.presets_root() == tmp_path / "site" / "presets"
    (package / "presets").mkdir()
    assert config.presets_root() == package / "presets"


def test_a_rule_between_settings_shows_what_it_found_and_not_all_of_them():
    with pytest.raises(UsageError) as caught:
        config.resolve(EvaluateSettings, {"flag": {"folders": ["data"], "max_seeds": "1"}}, "evaluate")
    assert caught.value.details == ("expected max_seeds of at least seeds, 3, found 1",)
