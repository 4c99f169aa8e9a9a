"""What a manifest says, and its one form on disk: an in-toto Statement v1 with SLSA-shaped provenance.

In memory a `Manifest` is flat (`m.stage`, `m.config`, `m.tree`); `render` nests it. Two runs with equal inputs
differ only in `runDetails`. `invocationId` is a hash of all the rest, so that a manifest alone shows any damage.
"""

import hashlib
import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ue_audit.budget import Budget
from ue_audit.config import Config
from ue_audit.digests import canonical, file_sha256, to_json, tree_digest
from ue_audit.errors import IntegrityError, NonFiniteError
from ue_audit.spelling import recorded

__all__ = [
    "JOURNAL", "MANIFEST", "RECORDS", "SUMS", "Budget", "Dependency", "Manifest", "RunDetails", "canonical",
    "file_sha256", "parse", "render", "sidecar", "statement", "tree_digest", "versions",
]  # fmt: skip

MANIFEST = "ue-audit.json"
RECORDS = "ue-audit.records.jsonl"
SUMS = "ue-audit.sums"
JOURNAL = "ue-audit.journal"

TYPE = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:ue-audit:stage:v1"
BUILD = "urn:ue-audit:{}/{}/1"


class Dependency(Config):
    """A parent: its role, its place relative to the output, and {"tree": hex} of a folder or {"sha256": hex} of a file.

    Of a plain folder, `limit` and `skipped` say which of its images were used.
    """

    name: str
    uri: str
    digest: dict[str, str]
    flat: bool = False
    limit: int | None = None
    skipped: tuple[str, ...] = ()


class RunDetails(Config):
    """What may differ between two equal runs. Times are ISO 8601 in UTC."""

    started: str = ""
    finished: str = ""
    seconds: float = 0.0
    resumed: int = 0
    device: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    measures: dict[str, Any] = Field(default_factory=dict)


class Manifest(Config):
    """A stage's account of one output. `tree`, `records_sha256`, `key`, `parameters` and times are set on sealing."""

    stage: str
    method: str
    status: Literal["complete", "partial", "failed"] = "complete"
    config: dict[str, Any] = Field(default_factory=dict)
    settings: dict[str, Any] = Field(default_factory=dict)
    origins: dict[str, str] = Field(default_factory=dict)
    seed: int | None = None
    budget: Budget | None = None
    counts: dict[str, Any] = Field(default_factory=dict)
    notes: dict[str, Any] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)
    summary: dict[str, Any] = Field(default_factory=dict)
    next: str = ""
    dependencies: list[Dependency] = Field(default_factory=list)
    key: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    subject: str = "."
    tree: str = ""
    records_sha256: str = ""
    sha256: str = ""
    run: RunDetails = Field(default_factory=RunDetails)

    def dependency(self, *names: str) -> Dependency | None:
        """The first dependency that has one of these names, in the order of the names."""
        found = {dependency.name: dependency for dependency in reversed(self.dependencies)}
        return next((found[name] for name in names if name in found), None)


def statement(*, stage: str, method: str, settings: Config | dict[str, Any] | None = None, **fields: Any) -> Manifest:
    """A manifest; unknown fields are refused. A stage's settings are kept as `spelling.recorded` has them."""
    if isinstance(settings, Config):
        fields = {"seed": getattr(settings, "seed", None)} | fields
        settings = recorded(settings)
    return Manifest(stage=stage, method=method, settings=settings or {}, **fields)


# -- the form on disk --------------------------------------------------------------------------------------

EXTERNAL = ("config", "origins", "settings", "seed")
INTERNAL = ("key", "budget", "parameters")
RESULT = ("status", "counts", "summary", "notes", "warnings", "next")
DIGESTS = {"tree": "dirHash1", "records_sha256": "records", "sha256": "sha256"}


def render(manifest: Manifest) -> bytes:
    """The bytes of a manifest: one form for equal content. Raises NonFiniteError for NaN in it."""
    nested = _nested(manifest)
    nested["predicate"]["runDetails"]["metadata"]["invocationId"] = _hash(nested)
    return _dump(nested)


def parse(data: bytes, where: str) -> Manifest:
    """The manifest in `data`. Raises IntegrityError when it is not byte for byte what `render` writes."""
    try:
        manifest = _flat(json.loads(data))
        whole = render(manifest) == data
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, AttributeError, NonFiniteError) as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise IntegrityError(f"{where}: the manifest cannot be read: {text}") from error
    if not whole:
        raise IntegrityError(f"{where}: the manifest was changed after it was written")
    return manifest


def _nested(m: Manifest) -> dict[str, Any]:
    values = m.model_dump()
    run = values["run"]
    return {
        "_type": TYPE,
        "subject": [{"name": m.subject, "digest": {DIGESTS[k]: values[k] for k in DIGESTS if values[k]}}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD.format(m.stage, m.method),
                "externalParameters": {key: values[key] for key in EXTERNAL},
                "internalParameters": {key: values[key] for key in INTERNAL},
                "resolvedDependencies": [_descriptor(dependency) for dependency in values["dependencies"]],
            },
            "result": {key: values[key] for key in RESULT},
            "runDetails": {
                "builder": {"id": "urn:ue-audit", "version": run["versions"]},
                "metadata": {"invocationId": "", "startedOn": run["started"], "finishedOn": run["finished"]},
                "run": {key: run[key] for key in ("seconds", "resumed", "device", "measures")},
            },
        },
    }


def _descriptor(dependency: dict[str, Any]) -> dict[str, Any]:
    """An in-toto ResourceDescriptor."""
    digest = {DIGESTS[key]: value for key, value in dependency["digest"].items()}
    used = {key: dependency[key] for key in ("flat", "limit", "skipped") if dependency[key]}
    return {"name": dependency["name"], "uri": dependency["uri"], "digest": digest, "annotations": used}


def _flat(nested: Any) -> Manifest:
    predicate, subject = nested["predicate"], nested["subject"][0]
    build, details = predicate["buildDefinition"], predicate["runDetails"]
    stage, method = build["buildType"].removeprefix("urn:ue-audit:").removesuffix("/1").split("/", 1)
    names = {name: key for key, name in DIGESTS.items()}
    run = {
        "started": details["metadata"]["startedOn"],
        "finished": details["metadata"]["finishedOn"],
        "versions": details["builder"]["version"],
        **details["run"],
    }
    parents = [
        {"name": d["name"], "uri": d["uri"], "digest": {names[k]: v for k, v in d["digest"].items()}} | d["annotations"]
        for d in build["resolvedDependencies"]
    ]
    digests = {names[key]: value for key, value in subject["digest"].items()}
    values = {"stage": stage, "method": method, "subject": subject["name"], "run": run, "dependencies": parents}
    parts = (digests, build["externalParameters"], build["internalParameters"], predicate["result"])
    for part in parts:
        values |= part
    return Manifest(**values)


def _dump(value: Any) -> bytes:
    return (to_json(value, indent=2) + "\n").encode()


def _hash(value: Any) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


# -- beside it ---------------------------------------------------------------------------------------------


def sidecar(path: Path) -> Path:
    """Where the manifest of an output that is one file lies."""
    return path.with_name(f"{path.name}.{MANIFEST}")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide about bytes, read without importing them."""
    found = {"python": platform.python_version()}
    for name in ("ue-audit", "torch", "torchvision", "numpy", "pillow", "lpips"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found
