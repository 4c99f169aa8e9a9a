"""From the records of an evaluation to what they say: cells, contests, recoveries, the verdict. No files, no torch.

A *group* is all seeds of one cell and learner. A *contest* is one protected set under one learner, with its clean
reference C, noise control, and every countermeasure P_k with its ceiling C_k. Accuracies are read at the last epoch
(READING), as the literature does; the epoch chosen on validation images and the peak stand beside it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ue_audit import scores
from ue_audit.scores import Arm, Estimate

READING = "last"
READINGS = {
    "last": "last epoch",
    "chosen": "epoch chosen on validation images",
    "peak": "best epoch on the test images",
}
ROLES = ("clean", "noise", "protected", "purified", "ceiling")
BROKEN = 0.5  # a countermeasure that recovers this much counts as a successful attack

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Group:
    """The trainings of one cell and learner, by seed."""

    role: str
    folder: str
    countermeasure: str | None
    learner: str
    records: tuple[Record, ...]

    def arm(self, reading: str = READING) -> Arm:
        return Arm(tuple(float(r[reading]) for r in self.records), int(self.records[0]["n_test"]))

    @property
    def validation(self) -> float:
        """Mean accuracy on the validation images at the last epoch: what an attacker chooses by."""
        return scores.mean([float(r["val_last"]) for r in self.records])


@dataclass(frozen=True)
class Contest:
    """One protected set under one learner; a missing cell is None."""

    protected: Group
    clean: Group
    noise: Group | None
    attacks: tuple[tuple[Group, Group | None], ...] = field(default=())  # (purified, its ceiling)

    @property
    def effect(self) -> Estimate:
        return scores.effect(self.clean.arm(), self.protected.arm())

    @property
    def best(self) -> tuple[Group, Group | None] | None:
        """The countermeasure with the highest validation accuracy, and its ceiling."""
        return max(self.attacks, key=lambda attack: attack[0].validation, default=None)

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


def contests(found: Sequence[Group], parents: Mapping[str, str]) -> list[Contest]:
    """Every protected set under every learner; `parents` says which folder a purified folder was made from."""
    made = []
    for protected in (g for g in found if g.role == "protected"):
        peers = [g for g in found if g.learner == protected.learner]
        clean = next((g for g in peers if g.role == "clean"), None)
        if clean is not None:
            made.append(_contest(protected, clean, peers, parents))
    return made


def _contest(protected: Group, clean: Group, peers: list[Group], parents: Mapping[str, str]) -> Contest:
    several = sum(g.role == "protected" for g in peers) > 1
    noise = next((g for g in peers if g.role == "noise" and g.folder.startswith(protected.folder)), None)
    attacks = tuple(
        (g, _ceiling(g, protected, peers))
        for g in peers
        if g.role == "purified" and (not several or _made_from(g.folder, parents) == protected.folder)
    )
    return Contest(protected, clean, noise, attacks)


def _made_from(folder: str, parents: Mapping[str, str]) -> str:
    return parents.get(folder, folder.rpartition(".")[0])


def _ceiling(purified: Group, protected: Group, peers: list[Group]) -> Group | None:
    """The same countermeasure on clean images: by name, and where variants share one, by the folder's ending."""
    same = [g for g in peers if g.role == "ceiling" and g.countermeasure == purified.countermeasure]
    ending = purified.folder.removeprefix(protected.folder)
    return next((g for g in same if ending and g.folder.endswith(ending)), same[0] if same else None)


def headline(found: Sequence[Contest]) -> Contest | None:
    """The contest that decides: the one the attacker wins by most, on validation images, where there was an effect."""
    protecting = [c for c in found if c.effect.value >= scores.MIN_EFFECT]
    return max(protecting or found, key=_validation_recovery, default=None)


def _validation_recovery(contest: Contest) -> float:
    if contest.best is None:
        return float("-inf")
    fall = contest.clean.validation - contest.protected.validation
    rise = contest.best[0].validation - contest.protected.validation
    return rise / fall if fall >= scores.UNDEFINED_EFFECT else 0.0


# -- as JSON -----------------------------------------------------------------------------------------------


def estimate(value: Estimate | None) -> dict[str, float | None] | None:
    return value._asdict() if value is not None else None


def cell(group: Group) -> dict[str, Any]:
    """A row of the table: every seed's accuracy and the mean with its interval, per reading."""
    arm = group.arm()
    return {
        "role": group.role,
        "folder": group.folder,
        "countermeasure": group.countermeasure,
        "learner": group.learner,
        "seeds": arm.seeds,
        "accuracies": list(arm.accuracies),
        "accuracy": estimate(scores.accuracy(arm)),
        "spread": arm.spread,
        **{reading: group.arm(reading).mean for reading in READINGS},
        "validation": group.validation,
        "images": group.records[0]["images"],
        "epochs": group.records[0]["epochs"],
    }


def attack(contest: Contest, purified: Group, ceiling: Group | None, chance: float) -> dict[str, Any]:
    """What one countermeasure gives back; keys that need a missing cell are None."""
    clean, protected, treated = contest.clean.arm(), contest.protected.arm(), purified.arm()
    rr = scores.recovery(clean, protected, treated)
    relative = scores.recovery(ceiling.arm(), protected, treated) if ceiling else None
    gap = scores.remaining_gap(clean.mean, ceiling.arm().mean, treated.mean) if ceiling else (None, None)
    return {
        "protected": contest.protected.folder,
        "learner": purified.learner,
        "countermeasure": purified.countermeasure,
        "folder": purified.folder,
        "chosen": contest.best is not None and contest.best[0] is purified,
        "validation": purified.validation,
        "accuracy": treated.mean,
        "recovery": estimate(rr),
        "survival": estimate(scores.survival(clean, protected, treated)),
        "ceiling": ceiling.arm().mean if ceiling else None,
        "ceiling_recovery": estimate(relative),
        "distortion_cost": gap[0],
        "residual_protection": gap[1],
        "chance_normalised": scores.chance_normalised(treated.mean, clean.mean, chance),
        "undoes": None if rr is None else rr.value >= BROKEN,
    }


def readings(contest: Contest) -> list[dict[str, Any]]:
    """The headline once more for each way to choose the epoch."""
    best = contest.best[0] if contest.best else None
    return [
        {
            "reading": name,
            "title": title,
            "clean": contest.clean.arm(name).mean,
            "protected": contest.protected.arm(name).mean,
            "purified": best.arm(name).mean if best else None,
            "survival": estimate(contest.survival(name)),
        }
        for name, title in READINGS.items()
    ]


def early_stopping(contest: Contest) -> float | None:
    """The share of C - V that stopping at the epoch chosen on validation images gives back, with no countermeasure."""
    fall = contest.clean.arm().mean - contest.protected.arm().mean
    if fall < scores.UNDEFINED_EFFECT:
        return None
    return (contest.protected.arm("chosen").mean - contest.protected.arm().mean) / fall


def curve(group: Group) -> dict[str, Any]:
    """Test accuracy after each epoch: mean, lowest and highest over the seeds."""
    epochs: dict[int, list[float]] = {}
    for record in group.records:
        for point in record["curve"]:
            epochs.setdefault(int(point["epoch"]), []).append(float(point["test"]))
    return {
        "role": group.role,
        "folder": group.folder,
        "countermeasure": group.countermeasure,
        "learner": group.learner,
        "points": [
            {"epoch": epoch, "mean": scores.mean(values), "low": min(values), "high": max(values)}
            for epoch, values in sorted(epochs.items())
        ],
    }


def per_class(contest: Contest) -> list[dict[str, Any]]:
    """Accuracy and survival by class, the class with the least protection left first; undefined ones last."""
    best = contest.best[0] if contest.best else None
    rows = []
    for name in sorted(contest.clean.records[0]["per_class"]):
        c, v = _class_mean(contest.clean, name), _class_mean(contest.protected, name)
        p = _class_mean(best, name) if best else None
        known = c is not None and v is not None and p is not None and c - v >= scores.MIN_EFFECT
        left = 1 - (p - v) / (c - v) if known else None  # type: ignore[operator]
        rows.append({"class": name, "clean": c, "protected": v, "purified": p, "survival": left})
    return sorted(rows, key=lambda row: (row["survival"] is None, row["survival"] or 0.0, row["class"]))


def _class_mean(group: Group, name: str) -> float | None:
    values = [float(r["per_class"][name]) for r in group.records if r["per_class"].get(name) is not None]
    return scores.mean(values) if values else None
