"""What differs between two audits, from the contents of their reports. Pure.

Rows are paired as `counterparts` says; what remains is only in one. Differences are second - first. Accuracies: seeds
and test images of both sides are independent, their variances add up, with Welch's freedom (`scores.effect`).
Recovery and survival: bounds by squaring and adding (`scores.difference`). Trainings that both have (`shared`: the same
images, every accuracy equal) differ by 0, without an interval. Exchanging the audits turns every sign round.

    schema, generator
    first, second     {name, title, sentence, grade, chosen (the attack), images, n_test, seeds}
    verdict           {survival, effect}, each {first, second, difference}: estimates, or null where one has none
    notes             [{state: same|differs|unknown, text}]: clean images, test images, numbers, learners, versions
    audits            [{name, folders [first, second], effect, survival: {first, second, difference}}], protected sets
    attacks           [{name, folders, shared, recovery, survival: {first, second, difference}}]
    accuracies        [{name, folders, shared, accuracy: {first, second, difference}}]
    settings          [{of, changes}] of paired sets that were made differently;  only_first, only_second: names
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ue_audit import __version__, counterparts, scores
from ue_audit.counterparts import Pair, Report
from ue_audit.scores import Arm, Estimate

SCHEMA = 1
DIGITS = 6


def compare(first: Report, second: Report, names: tuple[str, str]) -> dict[str, Any]:
    """The comparison of two contents of report.json; `names` are what the audits are called."""
    reports = (first, second)
    cells, only = counterparts.paired(
        *(list(counterparts.cells(report, counterparts.several(reports))) for report in reports)
    )
    attacks, _ = counterparts.paired(*(list(counterparts.attacks(report)) for report in reports))
    audits, _ = counterparts.paired(*(list(counterparts.audits(report)) for report in reports))
    return {
        "schema": SCHEMA,
        "generator": f"ue-audit {__version__}",
        "first": _side(first, names[0]),
        "second": _side(second, names[1]),
        "verdict": {key: _compared(*(report["verdict"][key] for report in reports)) for key in ("survival", "effect")},
        "notes": list(_notes(first, second)),
        "audits": [_verdicts(pair) for pair in audits],
        "attacks": [_attack(pair, first, second) for pair in attacks],
        "accuracies": [_accuracy(pair, first, second) for pair in cells],
        "settings": list(_changed(cells)),
        "only_first": only[0],
        "only_second": only[1],
    }


def _side(report: Report, name: str) -> dict[str, Any]:
    judged, setup = report["verdict"], report["setup"]
    found = {"name": name, "title": report["title"], "sentence": judged["sentence"], "grade": judged["grade"]}
    chosen = {"chosen": judged["chosen"] and judged["chosen"]["countermeasure"]}
    return found | chosen | {key: setup[key] for key in ("images", "n_test", "seeds")}


# -- by how much they differ -------------------------------------------------------------------------------


def _accuracy(pair: Pair, first: Report, second: Report) -> dict[str, Any]:
    a, b = pair
    arms = [Arm(tuple(i.row["accuracies"]), r["setup"]["n_test"]) for i, r in ((a, first), (b, second))]
    shared = arms[0] == arms[1] and _same_images(pair, first, second)
    difference = Estimate(0.0) if shared else scores.effect(arms[1], arms[0])
    found = {"first": a.row["accuracy"], "second": b.row["accuracy"], "difference": _rounded(difference)}
    return {"name": a.name, "folders": [a.folder, b.folder], "shared": shared, "accuracy": found}


def _attack(pair: Pair, first: Report, second: Report) -> dict[str, Any]:
    a, b = pair
    keys = ("recovery", "survival")
    shared = all(a.row[key] == b.row[key] for key in ("accuracy", *keys)) and _same_images(pair, first, second)
    found = {key: _compared(a.row[key], b.row[key], shared) for key in keys}
    return {"name": a.name, "folders": [a.folder, b.folder], "shared": shared, **found}


def _verdicts(pair: Pair) -> dict[str, Any]:
    a, b = pair
    found = {key: _compared(a.row[key], b.row[key]) for key in ("effect", "survival")}
    return {"name": a.name, "folders": [a.folder, b.folder], **found}


def _same_images(pair: Pair, first: Report, second: Report) -> bool:
    a, b = (
        counterparts.origin(report, item.folder).get("digest")
        for item, report in zip(pair, (first, second), strict=True)
    )
    return a == b


def _compared(
    first: Mapping[str, float] | None, second: Mapping[str, float] | None, shared: bool = False
) -> dict[str, Any]:
    difference = None
    if first is not None and second is not None:
        found = Estimate(0.0) if shared else scores.difference(Estimate(**second), Estimate(**first))
        difference = _rounded(found)
    return {"first": first, "second": second, "difference": difference}


def _rounded(value: Estimate) -> dict[str, float | None]:
    return {key: None if n is None else round(n, DIGITS) + 0.0 for key, n in value._asdict().items()}


# -- what else differs -------------------------------------------------------------------------------------


def _notes(first: Report, second: Report) -> Iterator[dict[str, str]]:
    apart = "differences are not only due to the method"
    for role, name in (("clean", "clean images"), ("test", "test images")):
        digests = [{row["digest"] for row in r["provenance"] if row.get("role") == role} for r in (first, second)]
        if not all(digests):
            yield _note("unknown", f"Whether the {name} are the same is not known.")
        elif digests[0] == digests[1]:
            yield _note("same", f"The {name} are the same.")
        else:
            yield _note("differs", f"The {name} differ: {apart}.")
    for key, name in (("images", "training images"), ("n_test", "test images"), ("classes", "classes")):
        a, b = first["setup"][key], second["setup"][key]
        if a != b:
            yield _note("differs", f"{a:,} and {b:,} {name}: {apart}.")
    yield from _learners(first, second)
    if not all(_recorded(report) for report in (first, second)):
        yield _note("unknown", "One report is of an older version and has no settings: rows are matched by name alone.")
    if first["generator"] != second["generator"]:
        yield _note("differs", f"Made by {first['generator']} and {second['generator']}.")


def _learners(first: Report, second: Report) -> Iterator[dict[str, str]]:
    """How learners of one name are set differently."""
    a, b = ({learner["name"]: learner["recipe"] for learner in r["setup"]["learners"]} for r in (first, second))
    for name in (name for name in a if name in b):
        found = list(_changes(a[name], b[name]))
        state = "differs" if found else "same"
        yield _note(state, f"Learner {name}: {', '.join(found) if found else 'the same recipe'}.")


def _recorded(report: Report) -> bool:
    return all("settings" in row for row in report["provenance"])


def _changed(cells: list[Pair]) -> Iterator[dict[str, Any]]:
    """Paired protections and countermeasures that were made differently, each once."""
    seen = set()
    for a, b in cells:
        for key in ("protection", "countermeasure"):
            if a.settings.get(key) is None or b.settings.get(key) is None:
                continue
            name = a.name if key == "countermeasure" else a.name.partition(" + ")[0]
            changes = tuple(_changes(a.settings[key], b.settings[key]))
            if changes and (name, changes) not in seen:
                seen.add((name, changes))
                yield {"of": name, "changes": list(changes)}


def _changes(first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted({*first, *second}):
        a, b = first.get(key, "not recorded"), second.get(key, "not recorded")
        if a != b:
            yield f"{key} {a} → {b}"


def _note(state: str, text: str) -> dict[str, str]:
    return {"state": state, "text": text}
