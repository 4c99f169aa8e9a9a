"""The tables of a report that are about attackers: prices, what each gives back, how they were set, and the doubt."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ue_audit.rendering.figures import ABSENT, UNDEFINED, count, duration, percent, points, ratio, remaining
from ue_audit.rendering.table import Report, Table, estimate

Attacker = Mapping[str, Any]
OVERLAP = {"disjoint": "no exact copies of the owner's", "shared": "some the owner's"}
OVERLAP_UNKNOWN = "perhaps some the owner's"
KNOWLEDGE = {"nothing": [], "budget": ["knows the budget"], "method": ["knows the method"]}
PROSE = frozenset({1})  # the column of the price list that holds words
FRONTIER = " (frontier)"
SOURCES = {
    "test": ("Test images", "images"),
    "training": ("Training seeds", "seeds"),
    "purification": ("Purification seeds", "runs"),
}
DOES_NOT_APPLY = "none"


def prices(report: Report) -> Table:
    """Every attacker of every protected set, the cheapest first."""
    lists = report["prices"]
    rows: list[tuple[str, ...]] = []
    marked = set()
    devices = {attacker["device"] for one in lists for attacker in one["attackers"]}
    for one in lists:
        for attacker in one["attackers"]:
            if attacker["frontier"]:
                marked.add(len(rows))
            rows.append(_priced(report, one, attacker))
    headers = (
        "Attacker", "Needs", "Prior", "Purification", "Training", "Beside the training", "Recovery",
        "Recovery to ceiling",
    )  # fmt: skip
    note = (
        "Beside the training: what an attack takes that plain training does not; prior and purification, and of a "
        "learner the time above the victim's. Frontier: no other attacker pays less, in time, images and weights, and "
        f"recovers as much. Times are of {' or '.join(sorted(filter(None, devices))) or 'devices not recorded'}, one "
        "run each, and no finer than the load of the machine."
    )
    lead = price_sentences(report)
    return Table("prices", "What an attack costs", headers, rows, True, note, frozenset(marked), lead, PROSE)


def price_sentences(report: Report) -> list[str]:
    """One sentence per protected set, named where there are several."""
    return [_of(report, one) + one["sentence"] for one in report["prices"] if one["attackers"]]


def _of(report: Report, one: Mapping[str, Any]) -> str:
    several, victims = (len({p[key] for p in report["prices"]}) > 1 for key in ("protected", "victim"))
    named = ", ".join([*([one["protected"]] if several else []), *([one["victim"]] if victims else [])])
    return f"{named}: " if named else ""


def attacker_name(one: Mapping[str, Any], attacker: Attacker) -> str:
    """The countermeasure, with its folder where several have that name."""
    same = [a for a in one["attackers"] if a["countermeasure"] == attacker["countermeasure"]]
    return str(attacker["countermeasure"]) + (f" ({attacker['folder']})" if len(same) > 1 else "")


def _priced(report: Report, one: Mapping[str, Any], attacker: Attacker) -> tuple[str, ...]:
    spent = attacker["seconds"]
    parts = (_part(spent[key]) for key in ("prior", "purification"))
    return (
        attacker_name(one, attacker) + _on(report["prices"], one) + (FRONTIER if attacker["frontier"] else ""),
        needs(attacker),
        *parts,
        duration(spent["training"]),
        duration(spent["extra"]),
        estimate(attacker["recovery"], ratio, UNDEFINED),
        estimate(attacker["ceiling_recovery"], ratio),
    )


def _part(seconds: float | None) -> str:
    """A stage's time; "none" where the attack has no such stage."""
    return DOES_NOT_APPLY if seconds == 0 else duration(seconds)


def needs(attacker: Attacker) -> str:
    """Images with their overlap with the owner's, weights, and knowledge of the protection."""
    images = [_images(attacker["raw_images"], "raw images"), _images(attacker["own_images"], "clean labelled images")]
    found = [text for text in images if text]
    if attacker["start"]:
        found.append(f"a prior fine-tuned from {attacker['start']['name']} ({_counted(attacker['start']['images'])})")
    if found:
        found.append(OVERLAP.get(attacker["overlap"], OVERLAP_UNKNOWN))
    if attacker["weights"] is None:
        found.append(f"weights {ABSENT}")
    found += [f"weights {name}" for name in attacker["weights"] or ()]
    found += KNOWLEDGE.get(attacker["knows"], [f"knowledge {attacker['knows'] or ABSENT}"])
    return ", ".join(found) or "nothing"


def _images(n: int | None, what: str) -> str:
    return "" if n == 0 else f"{what}, {ABSENT} how many" if n is None else f"{count(n)} {what}"


def _counted(n: int | None) -> str:
    return f"images {ABSENT}" if n is None else f"{count(n)} images"


def uncertainty(report: Report) -> Table:
    """Test images, training seeds and purification seeds, for the chosen attack of the verdict."""
    found = report["uncertainty"]
    sources = found["sources"] if found else []
    headers = (
        "Source", "Measured over", "Clean, points", "Protected, points", "Countermeasure, points", "In the recovery",
    )  # fmt: skip
    about = f"{found['countermeasure']} on {found['protected']}. " if found else ""
    note = (
        f"For the chosen attack, {about}Of the test images: the standard error of an accuracy. Of seeds: the standard "
        "deviation from one training, or one purification, to the next; of purification without what training seeds "
        "explain, at the least 0. In the recovery: the standard error that each makes in it. The intervals of this "
        "report hold the first two, and take the three accuracies as measured on different test images, which is "
        "cautious."
    )
    return Table("uncertainty", "Where the uncertainty comes from", headers, [_source(s) for s in sources], note=note)


def _source(source: Mapping[str, Any]) -> tuple[str, ...]:
    name, unit = SOURCES.get(source["source"], (source["source"], ""))
    purifies = source["source"] == "purification"
    apart = f" (runs differ by {points(source['between_runs'])})" if source.get("between_runs") is not None else ""
    return (
        name,
        f"{count(source['n'])} {unit if source['n'] != 1 else unit.removesuffix('s')}".strip(),
        *(DOES_NOT_APPLY if purifies else points(source[key]) for key in ("clean", "protected")),
        points(source["treated"]) + apart,
        ratio(source["recovery"]),
    )


def countermeasures(report: Report) -> Table:
    rows = [
        (
            str(attack["countermeasure"])
            + _on(report["countermeasures"], attack)
            + (" (chosen)" if attack["chosen"] else ""),
            percent(attack["accuracy"]),
            estimate(attack["recovery"], ratio, UNDEFINED),
            estimate(attack["survival"], remaining, UNDEFINED),
            percent(attack["ceiling"]),
            estimate(attack["ceiling_recovery"], ratio, ABSENT if attack["ceiling"] is None else UNDEFINED),
            points(attack["distortion_cost"]),
            points(attack["residual_protection"]),
            duration(attack["seconds"]),
        )
        for attack in report["countermeasures"]
    ]
    headers = (
        "Countermeasure", "Accuracy, %", "Recovery", "Survival", "Ceiling, %", "Recovery to ceiling",
        "Lost by itself, points", "By protection, points", "Time",
    )  # fmt: skip
    note = (
        "Recovery is the share of the lost accuracy that a countermeasure gives back, survival the rest, each with its "
        "95 % interval. The ceiling is the same countermeasure on clean images: the points that it loses by itself are "
        "set apart from those that are lost to the protection. Chosen: the highest accuracy on validation images. "
        "Time: the prior, the purification and one training."
    )
    marked = frozenset(i for i, attack in enumerate(report["countermeasures"]) if attack["chosen"])
    return Table("countermeasures", "What each countermeasure gives back", headers, rows, note=note, marked=marked)


def settings(report: Report) -> Table:
    """How each countermeasure was set, strength of the guidance included."""
    found = {attack["countermeasure"]: attack["settings"] for attack in report["countermeasures"]}
    rows = [(str(name), ", ".join(_each(of)) or "nothing to set") for name, of in sorted(found.items())]
    return Table("settings", "How they were set", ("Countermeasure", "Settings"), rows, figures=False)


def _each(settings: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Every setting and its value; those of a link of a chain under the link's name."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _each(value, f"{above}{key}.")
        else:
            yield f"{above}{key} {value}"


def _on(rows: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> str:
    """The protected set and the victim of a row, where `rows` have several."""
    several, victims = (len({r[key] for r in rows}) > 1 for key in ("protected", "victim"))
    return (f" on {row['protected']}" if several else "") + (f", {row['victim']}" if victims else "")
