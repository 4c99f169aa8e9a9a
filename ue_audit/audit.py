"""What an audit file says: folders, protections, priors, purifiers, evaluation. Unknown keys are refused.

    name: pets
    source: {clean: data, raw: raw}         # paths count from the folder of the file
    protections: [emn, {method: emn_class, set: {eps: 4/255}}, {imported: theirs, method: tap, set: {eps: 8/255}}]
    prior: {preset: small}                  # trained on source.raw: the prior of every purifier that names no other
    priors:                                 # others by name; `start` is a prior of this audit or a file
      tuned: {file: other.ckpt}
      longer: {start: tuned, set: {steps: 1000}}
    purifiers: [jcdp, [median, jcdp], {method: jcdp, name: jcdp-tuned, prior: tuned}]   # [a, b] is the chain `a+b`
    evaluation: {seeds: 3, max_seeds: 5}    # two more where three leave a verdict open
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from ue_audit.config import Config, did_you_mean, load_preset, load_yaml, preset_names, resolve
from ue_audit.errors import UsageError
from ue_audit.names import fold
from ue_audit.quantities import NAME, Duration, Share
from ue_audit.settings import AdoptSettings, EvaluateSettings, Running, TrainPriorSettings, check_most


class Choice(Config):
    """A method or preset with settings of its own; in a file, a bare name will do, or the names of a chain."""

    method: str
    name: str = ""
    set: dict[str, Any] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        return self.name or "+".join(link.rpartition(".")[2] for link in self.method.split("+"))


class Protection(Choice):
    """A protection, which may need pretrained weights or cover a share of the images; or a set that another tool
    protected: `method` is then what the report calls it, and `set` what that tool was allowed to change."""

    imported: Path | None = None
    encoder: Path | None = None
    ratio: Share = Field(default=1.0, gt=0)

    @model_validator(mode="before")
    @classmethod
    def _protected_elsewhere(cls, fields: Any) -> Any:
        if not isinstance(fields, Mapping) or fields.get("imported") is None:
            return fields
        if {"encoder", "ratio"} & set(fields):
            raise ValueError("an imported set is taken as it is: no encoder and no ratio")
        return {"method": AdoptSettings.model_fields["method"].default, **fields}


class Purifier(Choice):
    """A purifier, run with this many seeds: the audit's and those that follow; `prior` is one of `priors`."""

    seeds: int = Field(default=1, ge=1)
    prior: str = ""


def _named(value: Any) -> Any:
    if isinstance(value, list) and value and all(isinstance(link, str) for link in value):
        value = "+".join(value)
    return {"method": value} if isinstance(value, str) else value


Purifiers = Annotated[tuple[Annotated[Purifier, BeforeValidator(_named)], ...], Field(min_length=1)]
Protections = Annotated[tuple[Annotated[Protection, BeforeValidator(_named)], ...], Field(min_length=1)]


class Source(Config):
    """The owner's folders: clean images (class folders, or train/ test/ val/) and unprotected raw ones; `own` are clean
    labelled images that an attacker may have. `demo`: the built-in images where no clean ones are named."""

    clean: Path | None = None
    raw: Path | None = None
    test: Path | None = None
    val: Path | None = None
    own: Path | None = None
    demo: bool = False


class PriorChoice(Config):
    """A prior of the attacker's: trained with a preset on `raw` (else `source.raw`), from scratch or from another one,
    or a file that is there already."""

    preset: str = TrainPriorSettings.model_fields["preset"].default
    raw: Path | None = None
    start: str = ""
    file: Path | None = None
    set: dict[str, Any] = Field(default_factory=dict)


class Evaluation(Config):
    """What is trained on every set; with `max_seeds` seeds are added where an interval leaves a verdict open."""

    learners: tuple[str, ...] = EvaluateSettings.model_fields["learners"].default
    seeds: int = Field(default=EvaluateSettings.model_fields["seeds"].default, ge=1)
    max_seeds: int | None = Field(default=EvaluateSettings.model_fields["max_seeds"].default, ge=1)
    cross: bool = False
    encoder: Path | None = None
    noise_control: bool = True
    set: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _added(self) -> "Evaluation":
        check_most(self.seeds, self.max_seeds)
        return self


class AuditSettings(Running):
    """One audit, as its YAML file says it."""

    name: str = Field("audit", pattern=NAME)
    source: Source = Source()
    size: int | None = Field(None, ge=8)
    protections: Protections = (Protection(method="emn"),)
    prior: PriorChoice = PriorChoice()
    priors: dict[Annotated[str, Field(pattern=NAME)], PriorChoice] = Field(default_factory=dict)
    purifiers: Purifiers = (Purifier(method="jcdp"), Purifier(method="ddpm"))
    ceilings: bool = True
    evaluation: Evaluation = Field(default_factory=Evaluation)
    images: bool = True
    budget: Duration | None = None


def load(name: str, flags: Mapping[str, Any]) -> tuple[AuditSettings, dict[str, str]]:
    """The audit in a YAML file, or the audit preset of that name, with `flags` on top. Raises UsageError."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        layers = {"file": _anchored(load_yaml(path), path.parent)}
    elif name in preset_names("audits"):
        layers = {"preset": load_preset("audits", name)}
    else:
        hint = did_you_mean(name, preset_names("audits"))
        raise UsageError(f"no audit file and no audit preset named {name!r}", hint=hint)
    audit, origins = resolve(AuditSettings, {**layers, "flag": flags}, f"audit {name!r}")
    protections, purifiers = ([choice.label for choice in some] for some in (audit.protections, audit.purifiers))
    for kind, labels in (("protections", protections), ("purifiers", purifiers), ("priors", [*audit.priors])):
        if len({fold(label) for label in labels}) < len(labels):  # which name files that case does not tell apart
            raise UsageError(f"two {kind} have the same name: {', '.join(labels)}", hint="give one a `name:`")
    for choice in audit.purifiers:
        if choice.prior not in ("", *audit.priors):
            hint = did_you_mean(choice.prior, audit.priors)
            raise UsageError(f"{choice.label}: the audit has no prior named {choice.prior!r}", hint=hint)
    return audit, origins


PATHS = {"source": ("clean", "raw", "test", "val", "own"), "evaluation": ("encoder",)}


def _anchored(fields: dict[str, Any], base: Path) -> dict[str, Any]:
    """The fields of an audit file with its relative paths counted from `base`."""
    anchored = {key: _moved(value, PATHS.get(key, ()), base) for key, value in fields.items()}
    if isinstance(fields.get("protections"), list):
        anchored["protections"] = [_moved(choice, ("encoder", "imported"), base) for choice in fields["protections"]]
    named = fields["priors"] if isinstance(fields.get("priors"), dict) else {}
    if "prior" in fields:
        anchored["prior"] = _moved_prior(fields["prior"], named, base)
    if named:
        anchored["priors"] = {name: _moved_prior(choice, named, base) for name, choice in named.items()}
    return anchored


def _moved_prior(choice: Any, named: Mapping[str, Any], base: Path) -> Any:
    """`start` is a path unless it is the name of a prior."""
    is_name = isinstance(choice, dict) and str(choice.get("start")) in named
    return _moved(choice, ("file", "raw") if is_name else ("file", "raw", "start"), base)


def _moved(value: Any, names: Iterable[str], base: Path) -> Any:
    """A mapping with the paths under these keys counted from `base`; anything else as it is."""
    if not isinstance(value, dict):
        return value
    return value | {key: str(base / value[key]) for key in names if isinstance(value.get(key), str)}
