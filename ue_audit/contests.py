"""From the records of an evaluation to who stands against whom: groups and contests. No files, no torch.

A *group* is all seeds of one cell and learner. A *contest* is one protected set under one victim, with its clean
reference C, noise control, and every countermeasure P_k with its ceiling C_k: a purifier under the same victim, a
learner that hardens the victim, or both. Accuracies are read at the last epoch (READING), as the literature does; the
epoch chosen on validation images and the peak stand beside it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ue_audit import scores
from ue_audit.names import NOISE
from ue_audit.scores import Arm, Estimate
from ue_audit.thresholds import MIN_EFFECT, UNDEFINED_EFFECT

READING = "last"
ROLES = ("clean", "noise", "protected", "purified", "ceiling")

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Group:
    """The trainings of one cell and learner, by seed."""

    role: str
    folder: str
    countermeasure: str | None
    learner: str
    records: tuple[Record, ...]

    @property
    def kind(self) -> str:
        """"victim", "countermeasure" or "reference": see `lineup`."""
        return str(self.records[0].get("learner_kind", "victim"))

    @property
    def attack(self) -> str:
        """The countermeasure in words: a purifier, a learner, or both."""
        hardened = self.learner if self.kind == "countermeasure" else None
        return " + ".join(filter(None, [self.countermeasure, hardened]))

    def hardens(self, victim: "Group") -> bool:
        """Whether its learner is a countermeasure to that of `victim`."""
        first = victim.records[0]
        return self.kind == "countermeasure" and self.records[0]["counters"] == first.get("learner_method")

    @property
    def takes_own(self) -> bool:
        """Whether the attacker needs clean labelled images of their own for it."""
        return "own" in self.records[0].get("needs", ())

    def arm(self, reading: str = READING) -> Arm:
        return Arm(tuple(float(r[reading]) for r in self.records), int(self.records[0]["n_test"]))

    @property
    def validation(self) -> float:
        """Mean accuracy on the validation images at the last epoch: what an attacker chooses by."""
        return scores.mean([float(r["val_last"]) for r in self.records])


@dataclass(frozen=True)
class Contest:
    """One protected set under one victim; a missing cell is None."""

    protected: Group
    clean: Group
    noise: Group | None
    attacks: tuple[tuple[Group, Group | None], ...] = field(default=())  # (after the countermeasure, its ceiling)
    alone: Group | None = None  # the attacker's own images, without the published ones

    @property
    def effect(self) -> Estimate:
        return scores.effect(self.clean.arm(), self.protected.arm())

    @property
    def best(self) -> tuple[Group, Group | None] | None:
        """The countermeasure with the highest validation accuracy, and its ceiling.

        One that takes images of the attacker's own counts only above what those give alone.
        """
        counting = [pair for pair in self.attacks if self.counts(pair[0])]
        return max(counting, key=lambda attack: attack[0].validation, default=None)

    def counts(self, treated: Group) -> bool:
        """Whether a countermeasure is one: better than the attacker's own images alone, if it takes any."""
        return self.alone is None or not treated.takes_own or treated.validation > self.alone.validation

    @property
    def ranked(self) -> list[tuple[Group, Group | None]]:
        """The countermeasures, the highest accuracy first."""
        return sorted(self.attacks, key=lambda pair: -pair[0].arm().mean)

    def survival(self, reading: str = READING) -> Estimate | None:
        if self.best is None:
            return None
        return scores.survival(self.clean.arm(reading), self.protected.arm(reading), self.best[0].arm(reading))

    @property
    def seeds(self) -> int:
        groups = [self.clean, self.protected, *([self.best[0]] if self.best else [])]
        return min(group.arm().seeds for group in groups)


def groups(records: Iterable[Record]) -> list[Group]:
    """The records by cell and learner, in the order of ROLES."""
    found: dict[tuple[str, str, str | None, str], list[Record]] = {}
    for record in records:
        cell = record["cell"]
        key = (cell["role"], cell["folder"], cell["countermeasure"], record["learner"])
        found.setdefault(key, []).append(record)
    ordered = sorted(found, key=lambda key: (key[3], ROLES.index(key[0]), key[1], key[2] or ""))
    return [Group(*key, tuple(sorted(found[key], key=lambda r: r["seed"]))) for key in ordered]


def gather(
    found: Sequence[Group], parents: Mapping[str, str], settings: Mapping[str, Mapping[str, Any]] | None = None
) -> list[Contest]:
    """Every protected set under every victim; `parents` says which folder a purified folder was made from, and
    `settings` how, so that it finds the ceiling that was made alike.

    A countermeasure in training whose victim did not train is a victim itself.
    """
    made, alone = [], next((g for g in found if g.kind == "reference"), None)
    for protected in (g for g in found if g.role == "protected" and g.kind != "reference"):
        if any(protected.hardens(victim) for victim in found if victim.kind == "victim"):
            continue
        peers = [g for g in found if g.learner == protected.learner or g.hardens(protected)]
        clean = next((g for g in peers if g.role == "clean" and g.learner == protected.learner), None)
        if clean is not None:
            made.append(_contest(protected, clean, peers, alone, parents, settings or {}))
    return made


def _contest(
    protected: Group,
    clean: Group,
    peers: list[Group],
    alone: Group | None,
    parents: Mapping[str, str],
    settings: Mapping[str, Mapping[str, Any]],
) -> Contest:
    names = {g.folder for g in peers if g.role == "protected"}
    noise = next((g for g in peers if g.role == "noise" and g.folder == protected.folder + NOISE), None)

    def attacks(g: Group) -> bool:
        if g.role == "protected":
            return g.folder == protected.folder and g.learner != protected.learner
        return g.role == "purified" and (len(names) == 1 or _made_from(g.folder, parents, names) == protected.folder)

    treated = tuple((g, _ceiling(g, protected, peers, settings)) for g in peers if attacks(g))
    return Contest(protected, clean, noise, treated, alone)


def _made_from(folder: str, parents: Mapping[str, str], protected: Collection[str]) -> str:
    """The protected set that a purified one goes back to, over as many purifications as there are."""
    seen = {folder}
    while folder not in protected and (above := parents.get(folder, folder.rpartition(".")[0])) not in seen:
        seen.add(folder := above)
    return folder


def _ceiling(
    treated: Group, protected: Group, peers: list[Group], settings: Mapping[str, Mapping[str, Any]]
) -> Group | None:
    """The same countermeasure on clean images: by name, and where variants share one, by their settings, then by the
    folder's ending."""
    role = "clean" if treated.role == "protected" else "ceiling"
    alike = (role, treated.learner, treated.countermeasure)
    same = [g for g in peers if (g.role, g.learner, g.countermeasure) == alike]
    own, ending = settings.get(treated.folder), treated.folder.removeprefix(protected.folder)
    return max(
        same,
        key=lambda g: (settings.get(g.folder) == own, bool(ending) and g.folder.endswith(ending)),
        default=None,
    )


def headline(found: Sequence[Contest]) -> Contest | None:
    """The contest that decides: the one the attacker wins by most, on validation images, where there was an effect."""
    protecting = [c for c in found if c.effect.value >= MIN_EFFECT]
    return max(protecting or found, key=_validation_recovery, default=None)


def _validation_recovery(contest: Contest) -> float:
    if contest.best is None:
        return float("-inf")
    fall = contest.clean.validation - contest.protected.validation
    rise = contest.best[0].validation - contest.protected.validation
    return rise / fall if fall >= UNDEFINED_EFFECT else 0.0
