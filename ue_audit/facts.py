"""What a report needs beside accuracies: the manifests behind an evaluation. Reads manifests and records only."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ue_audit import attacker, manifest
from ue_audit.errors import UsageError
from ue_audit.manifest import Manifest
from ue_audit.settings import base_name
from ue_audit.spelling import MODELS, command

HELD_OUT = ("test", "val", "own")  # roles of folders that hold no training set; no set is called that
PURIFIED = ("purified", "ceiling")  # roles of folders that `purify` made


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
    priors: dict[str, Manifest] = field(default_factory=dict)  # purified folder -> the prior of its last purification
    starts: dict[str, Manifest] = field(default_factory=dict)  # purified folder -> what that prior was fine-tuned from
    replaced: tuple[str, ...] = ()  # folders made anew after the evaluation
    commands: tuple[str, ...] = ()

    @property
    def parents(self) -> dict[str, str]:
        """Purified folder -> the folder it was made from."""
        return parents(self.folders, self.made)

    @property
    def classes(self) -> list[str]:
        """Those that were trained on; of an older evaluation those that its test images have."""
        return list(self.evaluation.notes.get("classes") or sorted(self.records[0]["per_class"]))

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """How each folder with a manifest was made: the resolved configuration of its method; of several purifications
        one after the other all of them, each under its number and name."""
        return {name: self._config(name) for name in self.made}

    def _config(self, folder: str) -> dict[str, Any]:
        steps = [self.made[step] for step in self.purifications(folder) or ()]
        if len(steps) < 2:
            return self.made[folder].config
        return {f"{number} {step.method}": step.config for number, step in enumerate(steps, 1)}

    def training_seconds(self, trainings: Iterable[Mapping[str, Any]]) -> float | None:
        """The mean time of these trainings; None where none was kept."""
        kept = self.evaluation.run.measures.get("training seconds", {})
        took = [kept[record["key"]] for record in trainings if record["key"] in kept]
        return sum(took) / len(took) if took else None

    def purifications(self, folder: str) -> list[str] | None:
        """The folders of all purifications that made `folder`, in their order: it is the last of them. Empty for a set
        that was not purified; None where the manifest of one is not at hand."""
        found: list[str] = []
        while self.roles.get(folder) in PURIFIED and folder not in found:
            if folder not in self.made:
                return None
            found.insert(0, folder)
            if self.made[folder].dependency("protected") is None:  # made of the owner's images
                return found
            folder = self.parents[folder]
        return found if folder in self.roles else None

    def purifying_seconds(self, folder: str) -> float | None:
        """What the purifiers took to make `folder`, without the measuring where that was kept apart; None where not
        known."""
        line = self.purifications(folder)
        runs = [self.made[step].run for step in line or ()]
        found = [float(run.measures.get("purifying seconds", run.seconds)) for run in runs]
        return None if line is None else sum(found)

    def priors_of(self, folder: str) -> list[Manifest]:
        """Those of all purifications that made `folder`, each once."""
        found = [self.priors[step] for step in self.purifications(folder) or () if step in self.priors]
        return list({prior.sha256: prior for prior in found}.values())

    def seconds(self, folder: str | None, trainings: Iterable[Mapping[str, Any]]) -> float | None:
        """What a countermeasure took, as far as it is known: its priors, the purifications that made `folder`, and one
        training."""
        before = [trained_seconds(prior) or 0.0 for prior in self.priors_of(folder)] if folder else []
        before += [self.purifying_seconds(folder) or 0.0] if folder else []
        took = self.training_seconds(trainings)
        return sum(before) + took if took is not None else (sum(before) or None)

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


def trained_seconds(prior: Manifest) -> float | None:
    """What the training of a prior took; None for one that was trained elsewhere."""
    return None if prior.notes.get("imported") else prior.run.seconds


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
    places = {_name(place, d.name): (place, d) for d in m.dependencies for place in [manifest.locate(path, d)]}
    made = {name: found for name, (place, _) in places.items() if place.exists() and (found := manifest.find(place))}
    folders = {name: place for name, (place, _) in places.items()}
    priors = {name: own for name, m in made.items() if (own := _prior(folders[name], m)) is not None}
    roles = {name: dependency.name for name, (_, dependency) in places.items()}
    digests = {name: next(iter(dependency.digest.values()), "") for name, (_, dependency) in places.items()}
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


def _name(place: Path, role: str) -> str:
    """What the report calls a folder. A held-out one may have the name of a set: then its role stands beside it."""
    return f"{place.name} ({role})" if role in HELD_OUT and place.name != role else place.name


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


def guide_of(made: Manifest) -> str | None:
    """What JCDP took for perceptual, also as a link of a chain; "none" for purification without guidance."""
    for notes in (made.notes, *(part for part in made.notes.values() if isinstance(part, Mapping))):
        if isinstance(notes.get("perceptual_guide"), Mapping):
            return str(notes["perceptual_guide"]["name"])
    return None
