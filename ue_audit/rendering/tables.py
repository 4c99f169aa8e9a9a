"""The tables of a report as rows of text, from report.json alone. Markdown and HTML show the same ones.

Nothing is escaped here: each form escapes every cell.
"""

from collections.abc import Mapping
from typing import Any

from ue_audit.rendering.attackers import countermeasures, prices, settings, uncertainty
from ue_audit.rendering.figures import (
    ABSENT,
    UNDEFINED,
    count,
    decimal,
    duration,
    listed,
    percent,
    points,
    ratio,
    remaining,
)
from ue_audit.rendering.matrix import matrix
from ue_audit.rendering.published import published
from ue_audit.rendering.table import Report, Table, estimate, label, learner_suffix


def all_tables(report: Report) -> dict[str, Table]:
    """Every table by its key, those without rows left out."""
    made = [
        prices, audits, matrix, countermeasures, settings, accuracies, uncertainty, readings, published, fidelity,
        classes, prior, provenance,
    ]  # fmt: skip
    return {table.key: table for make in made if (table := make(report)).rows}


def audits(report: Report) -> Table:
    """One row per protected set and victim, where there are several."""
    victims = len({audit["learner"] for audit in report["audits"]})
    rows = [
        (
            audit["protected"] + (f", {audit['learner']}" if victims > 1 else ""),
            estimate(audit["effect"], points),
            audit["chosen"]["countermeasure"] if audit["chosen"] else ABSENT,
            estimate(audit["survival"], remaining, UNDEFINED if audit["chosen"] else ABSENT),
            audit["grade"] or "none: " + "; ".join(audit["no_grade"]),
        )
        for audit in report["audits"]
    ]
    headers = ("Protected set", "Effect, points", "Chosen countermeasure", "Survival", "Grade")
    note = (
        "The grade goes by the lower end of survival: A from 0.80, B from 0.60, C from 0.40, D from 0.20, else F. "
        "Countermeasures are chosen on validation images: another one may be ahead on the test images. The verdict "
        "above is that of the set, among those that protected at all, which the attacker undoes most."
    )
    return Table("audits", "Every protected set", headers, rows if len(rows) > 1 else [], note=note)


def accuracies(report: Report) -> Table:
    rows = [
        (
            label(report, cell) + learner_suffix(report, cell["learner"]),
            estimate(cell["accuracy"], percent),
            listed(cell["accuracies"], percent) or ABSENT,
            percent(cell["chosen"]),
            percent(cell["peak"]),
        )
        for cell in report["cells"]
    ]
    headers = ("Trained on", "Accuracy, %", "Each seed", "Chosen epoch", "Best epoch")
    setup = report["setup"]
    note = (
        f"Accuracy on {count(setup['n_test'])} clean test images after the last epoch, with its 95 % interval; chance "
        f"is {percent(setup['chance'])}. The chosen epoch is the best on {count(setup['n_val'])} validation images; "
        "the best epoch on the test images is an upper bound that no attacker can choose."
    )
    marked = frozenset(i for i, cell in enumerate(report["cells"]) if cell["folder"] in _chosen_folder(report))
    return Table("accuracies", "Accuracy by training set", headers, rows, note=note, marked=marked)


def _chosen_folder(report: Report) -> tuple[str, ...]:
    chosen = report["verdict"]["chosen"]
    return (chosen["folder"],) if chosen else ()


def readings(report: Report) -> Table:
    rows = [
        (
            reading["title"],
            percent(reading["clean"]),
            percent(reading["protected"]),
            percent(reading["purified"]),
            estimate(reading["survival"], remaining, ABSENT if reading["purified"] is None else UNDEFINED),
        )
        for reading in report["readings"]
    ]
    headers = ("Accuracy read at", "Clean, %", "Protected, %", "Countermeasure, %", "Survival")
    return Table("readings", "The same, by the epoch that counts", headers, rows)


def classes(report: Report) -> Table:
    rows = [
        (
            row["class"],
            percent(row["clean"]),
            percent(row["protected"]),
            percent(row["purified"]),
            UNDEFINED if row["survival"] is None and row["purified"] is not None else ratio(row["survival"]),
        )
        for row in report["per_class"]
    ]
    headers = ("Class", "Clean, %", "Protected, %", "Countermeasure, %", "Survival")
    note = (
        "The least protected class first, and those last from which the protection takes less than 10 points: it "
        "has no effect there. A class that gains is one that a misled network answers for others."
    )
    return Table("classes", "By class", headers, rows, note=note)


def fidelity(report: Report) -> Table:
    rows = [
        (
            row["folder"],
            _spread(row["linf"], 1),
            _spread(row["psnr"], 1),
            _spread(row["ssim"], 3),
            _spread(row["lpips"], 3),
            _spread(row["residual_correlation"], 2),
            _bands(row),
        )
        for row in report["fidelity"]
    ]
    headers = (
        "Images", "Largest change, levels", "PSNR, dB", "SSIM", "LPIPS", "Residual correlation", "Low / mid / high",
    )  # fmt: skip
    note = (
        "Distance to the clean originals: mean over images and, in brackets, 5th and 95th percentile. Residual "
        "correlation: the share of the protection's noise that is still there; 1 all of it, 0 none. Low, mid and high: "
        "how what is left (purified minus clean) is spread over frequencies, in thirds up to Nyquist. The largest "
        "change of a purified image is against the image it was made from."
    )
    return Table("fidelity", "Fidelity", headers, rows, note=note)


def _bands(row: Mapping[str, Any]) -> str:
    """Three shares of one energy."""
    found = [row[key] for key in ("residual_low", "residual_mid", "residual_high")]
    return " / ".join(decimal(value["mean"], 2) for value in found) if all(found) else ABSENT


def _spread(value: Mapping[str, float | None] | None, digits: int) -> str:
    if value is None:
        return ABSENT
    mean = decimal(value["mean"], digits)
    if value["p5"] is None or value["p95"] is None:
        return mean
    return f"{mean} [{decimal(value['p5'], digits)}, {decimal(value['p95'], digits)}]"


def prior(report: Report) -> Table:
    found = report["prior"]
    rows: list[tuple[str, str]] = []
    if found is not None:
        rows = [
            ("Prior", found["name"]),
            ("Trained on", f"{count(found['images'])} raw images" if found["images"] is not None else ABSENT),
            ("Started from", found["start"] or "scratch"),
            ("Training time", duration(found["seconds"])),
            *((f"Held-out PSNR at {name}, dB", decimal(value)) for name, value in found["figures"].items()),
            *((f"Exact duplicates, {pair}", count(n)) for pair, n in found["overlap"].items()),
            *((f"Near duplicates, {pair}", count(n)) for pair, n in found["near"].items()),
        ]
    return Table("prior", "The attacker's prior", ("", ""), rows, figures=False)


def _made_in(row: Mapping[str, Any]) -> str:
    return duration(row["seconds"]) if row["method"] else ""


def provenance(report: Report) -> Table:
    rows = [
        (
            row["name"],
            f"{row['stage']} {row['method']}".strip(),
            ", ".join(row["parents"]) or "–",
            row["digest"],
            _made_in(row) or "–",
        )
        for row in report["provenance"]
    ]
    headers = ("Folder or file", "Made by", "From", "Digest", "Time")
    note = "Digests are the first 12 digits of the tree digest (sha256). Check all of it: ue-audit verify --chain"
    return Table("provenance", "Where everything comes from", headers, rows, figures=False, note=note)
