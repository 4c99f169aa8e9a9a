"""What a report needs beside accuracies: the manifests behind an evaluation. Reads manifests and records only."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from ue_audit import attacker, manifest
from ue_audit.errors import UsageError
from ue_audit.manifest import Manifest
from ue_audit.settings import base_name
from ue_audit.spelling import MODELS, command

BANDS = ("residual_low", "residual_mid", "residual_high")  # shares of what is left over, by frequency
DIGITS = 12  # of a digest, where it is shown


@dataclass(frozen=True)
class Facts:
    """An evaluation and what lies behind it. Folders are known by name, as in the records' cells."""

    title: str
    evaluation: Manifest
    records: list[dict[str, Any]]
    folders: dict[str, Path] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)  # of the folders, as they were evaluated
    roles: dict[str, str] = field(default_factory=dict)  # of the folders: clean, protected, …, test, val, own
    made: dict[str, Manifest] = field(default_factory=dict)  # those with a manifest
    priors: dict[str, Manifest] = field(default_factory=dict)  # purified folder -> its prior
    starts: dict[str, Manifest] = field(default_factory=dict)  # purified folder -> what its prior was fine-tuned from
    replaced: tuple[str, ...] = ()  # folders made anew after the evaluation
    commands: tuple[str, ...] = ()

    @property
    def parents(self) -> dict[str, str]:
        """Purified folder -> the folder it was made from."""
        return parents(self.folders, self.made)

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """How each folder with a manifest was made: the resolved configuration of its method."""
        return {name: m.config for name, m in self.made.items()}

    def training_seconds(self, trainings: Iterable[Mapping[str, Any]]) -> float | None:
        """The mean time of these trainings; None where none was kept."""
        kept = self.evaluation.run.measures.get("training seconds", {})
        took = [kept[record["key"]] for record in trainings if record["key"] in kept]
        return sum(took) / len(took) if took else None

    def purifying_seconds(self, folder: str) -> float | None:
        """What the purifier took to make `folder`, without the measuring where that was kept apart."""
        made = self.made.get(folder)
        return None if made is None else float(made.run.measures.get("purifying seconds", made.run.seconds))

    def seconds(self, folder: str | None, trainings: Iterable[Mapping[str, Any]]) -> float | None:
        """What a countermeasure took, as far as it is known: its prior, the purification that made `folder`, and one
        training."""
        prior = self.priors.get(folder) if folder else None
        before = (prior.run.seconds if prior else 0.0) + ((self.purifying_seconds(folder) if folder else None) or 0.0)
        took = self.training_seconds(trainings)
        return before + took if took is not None else (before or None)

    def device(self, folder: str) -> str:
        return self.made[folder].run.device if folder in self.made else ""

    def alike(self, folder: str) -> list[str]:
        """The folders purified from the same set by the same method, settings and prior, one for each seed."""
        made = self.made.get(folder)
        if made is None or made.stage != "purify":
            return []
        found: dict[int | None, str] = {made.seed: folder}
        for name, other in self.made.items():
            if other.stage == "purify" and self._recipe(name) == self._recipe(folder):
                found.setdefault(other.seed, name)
        return list(found.values())

    def _recipe(self, folder: str) -> tuple[Any, ...]:
        made, prior = self.made[folder], self.priors.get(folder)
        return made.method, made.config, self.parents.get(folder), prior.sha256 if prior else None


def parents(folders: Mapping[str, Path], made: Mapping[str, Manifest]) -> dict[str, str]:
    """Folder -> the folder it was made from, by name, of those that have a manifest."""
    return {
        name: manifest.locate(folders[name], parent).name
        for name, m in made.items()
        if (parent := m.dependency("protected", "purified", "source")) is not None
    }


def gather(path: Path) -> Facts:
    """Everything about the evaluation at `path`. Raises UsageError for something else, IntegrityError for damage."""
    m = manifest.read(path)
    if m.stage != "evaluate":
        raise UsageError(f"expected an evaluation, found the output of {m.stage}: {path}", hint="run evaluate first")
    records = manifest.records(path)
    if not records:
        raise UsageError(f"expected the records of trainings, found none: {path}", hint="run evaluate again")
    places = [(manifest.locate(path, dependency), dependency) for dependency in m.dependencies]
    made = {place.name: found for place, _ in places if place.exists() and (found := manifest.find(place))}
    folders = {place.name: place for place, _ in places}
    priors = {name: own for name, m in made.items() if (own := _prior(folders[name], m)) is not None}
    roles = {place.name: dependency.name for place, dependency in places}
    digests = {place.name: next(iter(dependency.digest.values()), "") for place, dependency in places}
    return Facts(
        title=base_name(path).removesuffix(".eval"),
        evaluation=m,
        records=records,
        folders=folders,
        digests=digests,
        roles=roles,
        made=made,
        priors={name: prior for name, (_, prior) in priors.items()},
        starts={name: start[1] for name, own in priors.items() if (start := _parent(*own, "start")) is not None},
        replaced=tuple(name for name, m in made.items() if digests[name] != m.tree),
        commands=tuple(_commands(m)),
    )


def _prior(folder: Path, made: Manifest) -> tuple[Path, Manifest] | None:
    """The prior that a purified folder was made with, where the purifier needed it."""
    if made.dependency("prior") is None or "prior" not in attacker.needs(made):
        return None
    return _parent(folder, made, "prior")


def _parent(output: Path, made: Manifest, name: str) -> tuple[Path, Manifest] | None:
    """A file that an output was made with, and its manifest; None where it has none or is another one by now."""
    dependency = made.dependency(name)
    if dependency is None:
        return None
    place = manifest.locate(output, dependency)
    found = manifest.find(place) if place.exists() else None
    return (place, found) if found is not None and found.sha256 == dependency.digest.get("sha256") else None


def _commands(evaluation: Manifest) -> Iterator[str]:
    yield from evaluation.notes.get("commands", [])
    yield command("evaluate", MODELS["evaluate"](**evaluation.settings))


# -- parts of the report -----------------------------------------------------------------------------------


def notes(facts: Facts) -> dict[str, Any]:
    """The evaluation's notes and what the checks ask for beside them."""
    guides = [guide for m in facts.made.values() if (guide := guide_of(m))]
    return {
        **facts.evaluation.notes,
        "budgets": {name: found for name, m in facts.made.items() if (found := budget(facts.folders[name], m))},
        "guide": next((name for name in guides if name != "none"), None),
        "replaced": list(facts.replaced),
    }


def guide_of(made: Manifest) -> str | None:
    """What JCDP took for perceptual, also as a link of a chain; "none" for purification without guidance."""
    for notes in (made.notes, *(part for part in made.notes.values() if isinstance(part, Mapping))):
        if isinstance(notes.get("perceptual_guide"), Mapping):
            return str(notes["perceptual_guide"]["name"])
    return None


MEASURES = {"linf": ("linf", "levels", 255), "l2": ("l2", "in [0,1] units", 1), "l0": ("changed", "pixels", 1)}
"""Of each norm: the figure in the records, its unit, and how many of it make one unit of the budget."""


def budget(folder: Path, made: Manifest) -> dict[str, Any] | None:
    """The largest change of a protected set beside what was allowed; None for other sets and other norms."""
    allowed = made.budget
    if made.stage != "protect" or allowed is None or allowed.norm not in MEASURES:
        return None
    figure, unit, per_unit = MEASURES[allowed.norm]
    records = manifest.records(folder)
    worst = max(records, key=lambda r: r[figure] / (allowed.at(r["height"], r["width"]) or 1))
    largest, limit = worst[figure], per_unit * allowed.at(worst["height"], worst["width"])
    kept = largest <= limit + 1e-6
    return {"norm": allowed.norm, "largest": largest, "limit": limit, "unit": unit, "kept": kept}


def fidelity(facts: Facts) -> list[dict[str, Any]]:
    """Distances to the clean originals, per folder; what a protected set lacks is read from its purified sets."""
    found: Mapping[str, Mapping[str, Any]] = facts.evaluation.notes.get("fidelity") or {}
    rows = []
    for folder, own in found.items():
        children = [found[name] for name, parent in facts.parents.items() if parent == folder and name in found]
        from_clean = facts.parents.get(folder) not in facts.made and folder in facts.parents
        of_clean = {"psnr_clean": own.get("psnr")} if from_clean else {}
        values = {
            key: _spread(next((v for v in _candidates(key, own, children, of_clean) if v is not None), None))
            for key in ("psnr", "ssim", "lpips", "residual_correlation", *BANDS)
        }
        rows.append({"folder": folder, "linf": _spread(own.get("linf")), **values})
    return rows


def _candidates(key: str, own: Mapping[str, Any], children: Any, of_clean: Mapping[str, Any]) -> Iterator[Any]:
    if key.startswith("residual"):
        yield own.get(key)
        return
    yield own.get(f"{key}_clean")
    yield of_clean.get(f"{key}_clean")
    for child in children:
        yield child.get(f"{key}_protected_clean")


def _spread(value: Any) -> dict[str, float | None] | None:
    """A mean with percentiles, from {"mean", "p5", "p95"} or a bare mean."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {"mean": value["mean"], "p5": value.get("p5"), "p95": value.get("p95")}
    return {"mean": float(value), "p5": None, "p95": None}


def prior(facts: Facts) -> dict[str, Any] | None:
    """The attacker's prior: its images, start, time, figures of merit, and duplicates with the other sets."""
    found = facts.evaluation.notes.get("prior")
    if not found:
        return None
    seconds = next((None if m.notes.get("imported") else m.run.seconds for m in facts.priors.values()), None)
    overlap, near = (facts.evaluation.notes.get(key) or {} for key in ("overlap", "near"))
    return {
        "name": found["name"],
        "images": found.get("images"),
        "start": found.get("start"),
        "seconds": seconds,
        "figures": {f"sigma {sigma}": value for sigma, value in (found.get("figures") or {}).items()},
        "overlap": {pair: count for pair, count in overlap.items() if "prior" in pair.split(" ∩ ")},
        "near": {pair: one["count"] for pair, one in near.items() if "prior" in pair.split(" ∩ ")},
    }


def provenance(facts: Facts) -> list[dict[str, Any]]:
    """Every output behind the report with the start of its digest; the owner's folders have no stage."""
    rows = [_origin(name, facts.roles[name], facts.made.get(name), facts.digests[name]) for name in facts.folders]
    priors = {m.subject: m for m in facts.priors.values()}
    rows += [_origin(name, "prior", m, m.sha256) for name, m in priors.items()]
    return [*rows, _origin(f"{facts.title}.eval", "evaluation", facts.evaluation, facts.evaluation.tree)]


def _origin(name: str, role: str, made: Manifest | None, digest: str) -> dict[str, Any]:
    return {
        "name": name,
        "role": role,
        "parents": list(dict.fromkeys(PurePosixPath(unquote(d.uri)).name for d in made.dependencies)) if made else [],
        "stage": made.stage if made else "the owner's images",
        "method": made.method if made else "",
        "settings": made.config if made else None,
        "seed": made.seed if made else None,
        "digest": digest[:DIGITS],
        "seconds": made.run.seconds if made else None,
    }
