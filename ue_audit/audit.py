"""What an audit file says: folders, protections, prior, purifiers, evaluation. Unknown keys are refused.

    name: pets
    source: {clean: data, raw: raw}         # paths count from the folder of the file
    protections: [emn, {method: emn_class, set: {eps: 4/255}}]
    purifiers: [jcdp, [median, jcdp]]       # a list in the list is a chain, as `median+jcdp`
    evaluation: {seeds: 3}
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ue_audit.config import Config, did_you_mean, load_preset, load_yaml, overlay, preset_names, resolve
from ue_audit.errors import UsageError
from ue_audit.settings import EvaluateSettings, Running, Share, TrainPriorSettings


class Choice(Config):
    """A method or preset with settings of its own; in a file, a bare name will do, or the names of a chain."""

    method: str
    name: str = ""
    set: dict[str, Any] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        return self.name or "+".join(link.rpartition(".")[2] for link in self.method.split("+"))


class Protection(Choice):
    """A protection, which may need pretrained weights or cover a share of the images."""

    encoder: Path | None = None
    ratio: Share = Field(default=1.0, gt=0)


class Purifier(Choice):
    """A purifier, run with this many seeds: the audit's and those that follow."""

    seeds: int = Field(default=1, ge=1)


def _named(value: Any) -> Any:
    if isinstance(value, list) and value and all(isinstance(link, str) for link in value):
        value = "+".join(value)
    return {"method": value} if isinstance(value, str) else value


Purifiers = Annotated[tuple[Annotated[Purifier, BeforeValidator(_named)], ...], Field(min_length=1)]
Protections = Annotated[tuple[Annotated[Protection, BeforeValidator(_named)], ...], Field(min_length=1)]


class Source(Config):
    """The owner's folders: clean images (class folders, or train/ test/ val/) and unprotected raw ones; `own` are clean
    labelled images that an attacker may have."""

    clean: Path | None = None
    raw: Path | None = None
    test: Path | None = None
    val: Path | None = None
    own: Path | None = None


class PriorChoice(Config):
    """The attacker's prior: trained on `source.raw` with a preset, or a file that is there already."""

    preset: str = TrainPriorSettings.model_fields["preset"].default
    file: Path | None = None
    set: dict[str, Any] = Field(default_factory=dict)


class Evaluation(Config):
    """What is trained on every set."""

    learners: tuple[str, ...] = EvaluateSettings.model_fields["learners"].default
    seeds: int = Field(default=EvaluateSettings.model_fields["seeds"].default, ge=1)
    cross: bool = False
    encoder: Path | None = None
    noise_control: bool = True
    set: dict[str, Any] = Field(default_factory=dict)


class AuditSettings(Running):
    """One audit, as its YAML file says it."""

    name: str = Field("audit", pattern=r"^\w[\w.-]*$")
    source: Source = Source()
    size: int | None = Field(None, ge=8)
    protections: Protections = (Protection(method="emn"),)
    prior: PriorChoice = PriorChoice()
    purifiers: Purifiers = (Purifier(method="jcdp"), Purifier(method="ddpm"))
    ceilings: bool = True
    evaluation: Evaluation = Field(default_factory=Evaluation)
    images: bool = True


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
    for kind, choices in (("protections", audit.protections), ("purifiers", audit.purifiers)):
        labels = [choice.label for choice in choices]
        if len(set(labels)) < len(labels):
            raise UsageError(f"two {kind} have the same name: {', '.join(labels)}", hint="give one a `name:`")
    return audit, origins


PATHS = {"source": tuple(Source.model_fields), "prior": ("file",), "evaluation": ("encoder",)}


def _anchored(fields: dict[str, Any], base: Path) -> dict[str, Any]:
    """The fields of an audit file with its relative paths counted from `base`."""
    anchored = dict(fields)
    for key, names in PATHS.items():
        if isinstance(fields.get(key), dict):
            paths = {k: str(base / v) for k, v in fields[key].items() if k in names and isinstance(v, str)}
            anchored = overlay(anchored, {key: paths})
    if isinstance(fields.get("protections"), list):
        anchored["protections"] = [_anchored_encoder(choice, base) for choice in fields["protections"]]
    return anchored


def _anchored_encoder(choice: Any, base: Path) -> Any:
    if isinstance(choice, dict) and isinstance(choice.get("encoder"), str):
        return choice | {"encoder": str(base / choice["encoder"])}
    return choice
