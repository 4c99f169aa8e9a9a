"""What the contests of an evaluation say, as JSON: cells, recoveries, curves, classes. No files, no torch."""

from collections.abc import Sequence
from typing import Any

from ue_audit import scores
from ue_audit.contests import ROLES, Contest, Group
from ue_audit.scores import Estimate
from ue_audit.thresholds import BROKEN, MIN_EFFECT, UNDEFINED_EFFECT

READINGS = {
    "last": "last epoch",
    "chosen": "epoch chosen on validation images",
    "peak": "best epoch on the test images",
}


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
        "learner_kind": group.kind,
        "seeds": arm.seeds,
        "accuracies": list(arm.accuracies),
        "accuracy": estimate(scores.accuracy(arm)),
        "spread": arm.spread,
        **{reading: group.arm(reading).mean for reading in READINGS},
        "validation": group.validation,
        "images": group.records[0]["images"],
        "epochs": group.records[0]["epochs"],
    }


def cells(groups: Sequence[Group], found: Sequence[Contest]) -> list[dict[str, Any]]:
    """Every measured cell, and a row of nulls for each that an audit needs and nobody measured."""
    rows = [cell(group) for group in groups]
    for contest in found:
        learner, protected = contest.protected.learner, contest.protected.folder
        if contest.noise is None:
            rows.append(_missing("noise", protected, None, learner))
        if not contest.attacks:
            rows.append(_missing("purified", protected, None, learner))
        lacking = {(str(g.countermeasure), g.learner) for g, c in contest.attacks if c is None and g.role == "purified"}
        rows += [_missing("ceiling", protected, *pair) for pair in sorted(lacking)]
    return sorted(rows, key=lambda c: (c["learner"], ROLES.index(c["role"])))


def _missing(role: str, folder: str, countermeasure: str | None, learner: str) -> dict[str, Any]:
    empty = dict.fromkeys(("accuracy", "spread", *READINGS, "validation", "images", "epochs"))
    row = {"role": role, "folder": folder, "countermeasure": countermeasure, "learner": learner}
    row["learner_kind"] = "victim"  # or one that hardens it: it trained, only this set is missing
    return row | {"seeds": 0, "accuracies": []} | empty


def attack(contest: Contest, treated: Group, ceiling: Group | None, chance: float) -> dict[str, Any]:
    """What one countermeasure gives back; keys that need a missing cell are None."""
    clean, protected, arm = contest.clean.arm(), contest.protected.arm(), treated.arm()
    rr = scores.recovery(clean, protected, arm)
    relative = scores.recovery(ceiling.arm(), protected, arm) if ceiling else None
    gap = scores.remaining_gap(clean.mean, ceiling.arm().mean, arm.mean) if ceiling else (None, None)
    return {
        "protected": contest.protected.folder,
        "learner": treated.learner,
        "victim": contest.protected.learner,
        "countermeasure": treated.attack,
        "counts": contest.counts(treated),
        "folder": treated.folder,
        "chosen": contest.best is not None and contest.best[0] is treated,
        "validation": treated.validation,
        "accuracy": arm.mean,
        "recovery": estimate(rr),
        "survival": estimate(scores.survival(clean, protected, arm)),
        "ceiling": ceiling.arm().mean if ceiling else None,
        "ceiling_recovery": estimate(relative),
        "distortion_cost": gap[0],
        "residual_protection": gap[1],
        "chance_normalised": scores.chance_normalised(arm.mean, clean.mean, chance),
        "undoes": None if rr is None or contest.effect.value < MIN_EFFECT else rr.value >= BROKEN,
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
    if fall < UNDEFINED_EFFECT:
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
        "learner_kind": group.kind,
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
        known = c is not None and v is not None and p is not None and c - v >= MIN_EFFECT
        left = 1 - (p - v) / (c - v) if known else None  # type: ignore[operator]
        rows.append({"class": name, "clean": c, "protected": v, "purified": p, "survival": left})
    return sorted(rows, key=lambda row: (row["survival"] is None, row["survival"] or 0.0, row["class"]))


def _class_mean(group: Group, name: str) -> float | None:
    values = [float(r["per_class"][name]) for r in group.records if r["per_class"].get(name) is not None]
    return scores.mean(values) if values else None
