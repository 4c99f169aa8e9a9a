"""Configuration: the frozen pydantic base, fractions such as "8/255", safe YAML, presets and overrides."""

import difflib
from collections.abc import Iterable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, TypeVar

import pydantic
import yaml
from pydantic import BeforeValidator, PlainSerializer

from ue_audit.errors import UsageError

YAML_BYTES = 2**20


class Config(pydantic.BaseModel):
    """Frozen, refuses unknown keys, validates defaults: what a manifest records is what was used."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, protected_namespaces=()
    )


ConfigT = TypeVar("ConfigT", bound=Config)


def parse_fraction(value: object) -> object:
    """"8/255" -> 0.03137...; anything else is passed on to pydantic."""
    if isinstance(value, str) and "/" in value:
        try:
            return float(Fraction(value.replace(" ", "")))
        except (ValueError, ZeroDivisionError) as error:
            raise ValueError(f"expected a number or a fraction such as 8/255, found {value!r}") from error
    return value


def show_fraction(value: float) -> str:
    """0.03137... -> "8/255": levels with at most three decimals, so that a manifest reads like the papers."""
    levels = round(value * 255, 3)
    return f"{levels:g}/255"


Levels = Annotated[float, BeforeValidator(parse_fraction), PlainSerializer(show_fraction, when_used="json")]
"""A distance in pixel space, [0,1], written as a fraction of 255 ("8/255")."""


class _Loader(yaml.SafeLoader):
    """YAML without aliases and duplicate keys: the first allow bombs, the second hide mistakes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError(f"aliases are not allowed (line {self.peek_event().start_mark.line + 1})")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"key {sorted(twice)[0]!r} appears twice (line {node.start_mark.line + 1})")
        return super().construct_mapping(node, deep=deep)


_Loader.add_constructor(
    yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, lambda loader, node: loader.construct_mapping(node, deep=True)
)


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file of at most 1 MiB. Raises UsageError on anything else."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the configuration {path}: {error.strerror}") from error
    if len(raw) > YAML_BYTES:
        raise UsageError(f"{path}: expected a configuration of at most 1 MiB, found {len(raw)} bytes")
    return _mapping(raw, str(path))


def _mapping(raw: bytes, where: str) -> dict[str, Any]:
    try:
        value = yaml.load(raw.decode("utf-8"), Loader=_Loader)  # noqa: S506  (a SafeLoader with fewer powers)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError, TypeError) as error:
        raise UsageError(f"{where}: not a YAML mapping: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise UsageError(f"{where}: expected `key: value` lines, found {type(value).__name__}")
    return value


def parse_set(items: Iterable[str]) -> dict[str, Any]:
    """`--set a=1 --set b=[x]` -> {"a": 1, "b": ["x"]}; the value is read as YAML."""
    values: dict[str, Any] = {}
    for item in items:
        key, found, text = item.partition("=")
        if not found or not key:
            raise UsageError(f"--set expects key=value, found {item!r}")
        values[key.strip()] = _mapping(f"value: {text}".encode(), f"--set {key}").get("value")
    return values


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """"did you mean 'emn'? known: emn, lsp" for error messages."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    listing = f"known: {', '.join(known)}"
    return f"did you mean {close[0]!r}? {listing}" if close else listing


# -- presets -----------------------------------------------------------------------------------------------


def presets_root() -> Path:
    """The presets: inside the package in a wheel, beside it in a source tree."""
    package = Path(__file__).parent
    for root in (package / "presets", package.parent / "presets"):
        if root.is_dir():
            return root
    raise UsageError("the presets are missing from this installation", hint="reinstall ue-audit")


def preset_names(stage: str) -> list[str]:
    """Names of the presets of a stage ("protect", "train-prior", "purify", "evaluate", "audits")."""
    return sorted(path.stem for path in (presets_root() / stage).glob("*.yaml"))


def load_preset(stage: str, name: str) -> dict[str, Any]:
    """The fields a preset sets. Raises UsageError naming the nearest preset."""
    if name not in preset_names(stage):
        raise UsageError(f"no {stage} preset named {name!r}", hint=did_you_mean(name, preset_names(stage)))
    return load_yaml(presets_root() / stage / f"{name}.yaml")


def resolve(
    model: type[ConfigT], layers: Mapping[str, Mapping[str, Any]], where: str
) -> tuple[ConfigT, dict[str, str]]:
    """Merge layers (name -> values, weakest first) into `model`; also each field's origin.

    Raises UsageError listing every unknown key and bad value at once.
    """
    values: dict[str, Any] = {}
    origins = dict.fromkeys(model.model_fields, "default")
    for layer, fields in layers.items():
        values.update(fields)
        origins.update(dict.fromkeys(fields, layer))
    try:
        return model(**values), {key: origins[key] for key in model.model_fields}
    except pydantic.ValidationError as error:
        raise UsageError(
            f"{where}: {error.error_count()} setting(s) cannot be used",
            details=[_explain(problem, model, origins) for problem in error.errors()],
        ) from error


def _explain(problem: Any, model: type[Config], origins: Mapping[str, str]) -> str:
    key = ".".join(str(part) for part in problem["loc"]) or "(whole)"
    origin = origins.get(str(problem["loc"][0]), "") if problem["loc"] else ""
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; {did_you_mean(key, model.model_fields)}"
    return f"{key} = {problem['input']!r} ({origin}): {problem['msg']}"
