"""Configuration: the frozen pydantic base, fractions such as "8/255", safe YAML, presets and overrides."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Annotated, Any, TypeVar, get_args

import pydantic
import yaml
from pydantic import BeforeValidator, PlainSerializer

from ue_audit.errors import UsageError

YAML_BYTES = 2**20
DEPTH = 8


class Config(pydantic.BaseModel):
    """Frozen, refuses unknown keys, validates defaults: what a manifest records is what was used."""

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False, protected_namespaces=()
    )

    @pydantic.field_serializer("*", mode="wrap", when_used="json")
    def _portable(self, value: Any, default: pydantic.SerializerFunctionWrapHandler) -> Any:
        """Paths have "/" between their parts, on Windows, too."""
        if isinstance(value, PurePath):
            return value.as_posix()
        if isinstance(value, tuple) and any(isinstance(part, PurePath) for part in value):
            return [part.as_posix() for part in value]
        return default(value)


ConfigT = TypeVar("ConfigT", bound=Config)


def parse_fraction(value: object) -> object:
    """"8/255" -> 0.03137...; anything else is passed on to pydantic."""
    if isinstance(value, str) and "/" in value:
        try:
            above, below = value.split("/")
            return float(Fraction(above.strip()) / Fraction(below.strip()))
        except (ValueError, ZeroDivisionError) as error:
            raise ValueError(f"expected a number or a fraction such as 8/255, found {value!r}") from error
    return value


def show_fraction(value: float) -> str:
    """0.03137... -> "8/255", so that a manifest reads like the papers; what is no such fraction stays a number."""
    fraction = f"{round(value * 255, 3):g}/255"
    return fraction if parse_fraction(fraction) == value else repr(value)


Levels = Annotated[float, BeforeValidator(parse_fraction), PlainSerializer(show_fraction, when_used="json")]
"""A distance in pixel space, [0,1], written as a fraction of 255 ("8/255")."""


class _Loader(yaml.SafeLoader):
    """YAML without aliases and duplicate keys: the first allow bombs, the second hide mistakes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(f"aliases are not allowed (line {line})")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = {str(key) for key in keys if keys.count(key) > 1}
        if twice:
            raise yaml.YAMLError(f"key {sorted(twice)[0]!r} appears twice (line {node.start_mark.line + 1})")
        return super().construct_mapping(node, deep=deep)


def _construct(loader: _Loader, node: Any) -> Any:
    return loader.construct_mapping(node, deep=True)


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads."""


EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$")  # YAML 1.1 reads 1e-4 as a string
for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver("tag:yaml.org,2002:float", EXPONENT, list("-+0123456789"))
_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _construct)


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
        value = yaml.load(raw.decode("utf-8"), Loader=_Loader)  # a SafeLoader with fewer powers
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError, TypeError) as error:
        raise UsageError(f"{where}: not a YAML mapping: {' '.join(str(error).split())}") from error
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


def show_yaml(value: Any) -> str:
    """A value on one line, as a file and `--set` read it."""
    text: str = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, width=2**31, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """"did you mean 'emn'? known: emn, lsp" for error messages."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    listing = f"known: {', '.join(known) or 'none'}"
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


def overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`below` with the values of `above` on top; mappings in both are merged, everything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(below.get(key), Mapping)
        merged[key] = overlay(below[key], value) if both else value
    return merged


def nest(fields: Mapping[str, Any]) -> dict[str, Any]:
    """{"prior.preset": "small"} -> {"prior": {"preset": "small"}}: `--set` reaches into nested settings."""
    nested: dict[str, Any] = {}
    for key, value in fields.items():
        if key.count(".") > DEPTH:
            raise UsageError(f"expected a setting with at most {DEPTH} dots, found {key[:40]!r}…")
        for part in reversed(key.split(".")):
            value = {part: value}
        nested = overlay(nested, value)
    return nested


def dotted(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of nested mappings with its value, outer ones first, inner ones named with dots."""
    for key, value in fields.items():
        yield f"{prefix}{key}", value
        if isinstance(value, Mapping):
            yield from dotted(value, f"{prefix}{key}.")


def resolve(
    model: type[ConfigT], layers: Mapping[str, Mapping[str, Any]], where: str
) -> tuple[ConfigT, dict[str, str]]:
    """Merge layers (name -> values, weakest first) into `model`; also the origin of each field (inner: dotted).

    Raises UsageError listing every unknown key and bad value at once.
    """
    values: dict[str, Any] = {}
    origins = dict.fromkeys(model.model_fields, "default")
    for layer, fields in layers.items():
        given = nest(fields)
        values = overlay(values, given)
        origins.update((key, layer) for key, _ in dotted(given))
    try:
        return model(**values), origins
    except pydantic.ValidationError as error:
        raise UsageError(
            f"{where}: {error.error_count()} setting(s) cannot be used",
            details=[_explain(problem, model, origins) for problem in error.errors()],
        ) from error


def _explain(problem: Any, model: type[Config], origins: Mapping[str, str]) -> str:
    loc, said = problem["loc"], problem["msg"].removeprefix("Value error, ")
    if not loc:  # a rule between settings, which says itself what it found
        return str(said)
    key = ".".join(str(part) for part in loc)
    origin = origins.get(key) or origins.get(str(loc[0]), "")
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; {did_you_mean(str(loc[-1]), _fields(model, loc[:-1]))}"
    if problem["type"] == "missing":
        return f"{key}: needed, and not given"
    return f"{key} = {problem['input']!r} ({origin}): {said}"


def _fields(model: Any, loc: Iterable[Any]) -> Iterable[str]:
    """The field names of the model that sits at `loc` inside `model`."""
    for part in loc:
        inner = getattr(model, "model_fields", {}).get(part)
        kinds = [model] if inner is None else [inner.annotation, *get_args(inner.annotation)]
        model = next((kind for kind in kinds if hasattr(kind, "model_fields")), model)
    return list(getattr(model, "model_fields", {}))
