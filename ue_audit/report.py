"""report: an evaluation -> verdict. Manifests and records in; report.json out, and Markdown, HTML, image sheet of it.

report.json is the truth, the rest is rendered from it. Schema 1, shares and accuracies from 0 to 1, null where
nothing was measured, an *estimate* being {"value", "low", "high"} with its 95 % interval:

    schema, generator, title
    verdict           sentence; grade (A to F) or null and no_grade (reasons); survival, effect (estimates);
                      chosen {countermeasure, folder, learner}; cheapest (a successful attack, in words)
    checks            [{name, state: ok|warn|fail|unknown, text}], the worst first;  warnings of the stages
    setup             images, classes, chance, n_test, n_val, seeds, reading, learners [{name, epochs, recipe}]
    audits            one verdict per protected set and learner, as `verdict`, with protected and learner
    prices            one price list per protected set and victim: [{protected, victim, sentence, attackers: [{
                      countermeasure, folder, learner, counts, chosen, undoes, recovery, ceiling_recovery,
                      prior (its file), raw_images, start ({name, images, seconds} of what the prior was fine-tuned
                      from; null: from scratch), own_images (clean labelled ones; 0: needs none, null: not recorded),
                      overlap with the owner's images (disjoint, shared, "not known"; null: has none), weights (names),
                      knows (of the protection: nothing, budget, method), seconds {prior, purification, training,
                      total, extra: beside one training of the victim}, device, frontier}]}], the cheapest first
    cells             [{role: clean|noise|protected|ceiling|purified, folder, countermeasure, learner, learner_kind:
                      victim|countermeasure|reference, seeds,
                      accuracies (of each seed, last epoch), accuracy (estimate), spread, last, chosen, peak,
                      validation, images, epochs}]; accuracy null: the cell was not measured
    countermeasures   [{protected, victim, learner, countermeasure (a purifier, a learner or both, in words), counts
                      (false: no better than the attacker's own images alone), folder, chosen (on validation images),
                      accuracy, recovery, survival, ceiling_recovery (estimates), ceiling, distortion_cost,
                      residual_protection, chance_normalised, undoes, validation, seconds, device,
                      settings (the resolved configuration; guide used: what JCDP took for perceptual)}]
    uncertainty       {protected, victim, countermeasure, folder, sources: [{source: test|training|purification, n,
                      clean, protected, treated: standard error (test) or standard deviation of an accuracy,
                      recovery: the standard error that it makes}]}; null where not measured, purification only where
                      the countermeasure purifies
    readings          [{reading: last|chosen|peak, title, clean, protected, purified, survival}]
    published         dataset (as recognised, or null); figures, those that are comparable [{role, folder,
                      countermeasure, learner, reading, accuracy, published, spread, runs, difference, source, place,
                      evidence, differs}]; not_comparable [{cells (training sets), because}]; rules in `comparable`
    curves            [{role, folder, countermeasure, learner, learner_kind, points: [{epoch, mean, low, high}]}]
    per_class         [{class, clean, protected, purified, survival}]
    fidelity          [{folder, linf, psnr, ssim, lpips, residual_correlation: {mean, p5, p95}}]
    prior             {name, images, start, seconds, figures, overlap, near: {"test ∩ prior": duplicates}}
    sheet             {file, columns, rows, tile, alt, caption};  limits, commands
    provenance        [{name, role, parents (names), stage, method, settings (as resolved), seed, digest (12 digits),
                      seconds}]
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from ue_audit import (
    __version__,
    attestation,
    beside,
    contests,
    facts,
    findings,
    honesty,
    manifest,
    outlay,
    prices,
    samples,
    shards,
    verdict,
)  # fmt: skip
from ue_audit.contests import READING, Contest, Group
from ue_audit.digests import portable
from ue_audit.facts import Facts
from ue_audit.manifest import MANIFEST, Dependency, Manifest
from ue_audit.progress import SILENT, Progress
from ue_audit.rendering import html, markdown
from ue_audit.samples import Samples
from ue_audit.settings import Plan, ReportSettings, command, recorded

SCHEMA = 1
FILES = ("report.json", "report.md", "report.html", "report.png", attestation.FILE)


def run(settings: ReportSettings, progress: Progress = SILENT) -> Path:
    """Write the report of `settings.evaluation`; returns its sealed folder.

    Raises UsageError (no evaluation there), IntegrityError (a damaged manifest or records).
    """
    output = settings.place()
    shards.refuse_overlap(output, [settings.evaluation])
    known = facts.gather(settings.evaluation)
    work = shards.Work.open(output, _parameters(settings), fresh=settings.fresh)
    if work.complete and settings.fail_under in (None, manifest.read(output).settings.get("fail_under")):
        progress.say(f"{output} is up to date")
        return output
    if work.complete:  # for another bound: the same report with another test result
        work = shards.Work.open(output, _parameters(settings), fresh=True)
    found = contests.gather(contests.groups(known.records), known.parents, known.settings)
    shown = samples.choose(known, contests.headline(found)) if settings.images else None
    report = compose(known, shown.about if shown else None, settings)
    files = _files(report, shown)
    files[attestation.FILE] = _test_result(settings, known, contests.headline(found), report, files["report.json"])
    if not work.done:
        work.commit("report", files, [_record(name, data) for name, data in files.items()])
    return work.seal(_statement(settings, known, report))


def plan(settings: ReportSettings, progress: Progress = SILENT) -> Plan:
    """What `run` would do; writes nothing."""
    known = facts.gather(settings.evaluation)
    return Plan(
        stage="report",
        output=str(settings.place()),
        images=samples.ROWS if settings.images else 0,
        shards=1,
        output_bytes=500_000,
        free_bytes=shutil.disk_usage(settings.place().resolve().parent).free,
        seconds_estimate=1.0,
        notes=(f"{len(known.records)} trainings",),
    )


def _parameters(settings: ReportSettings) -> dict[str, Any]:
    return {
        "stage": "report",
        "evaluation": manifest.file_sha256(settings.evaluation / MANIFEST),
        "images": settings.images,
        "version": __version__,
    }


def _files(report: dict[str, Any], shown: Samples | None) -> dict[str, bytes]:
    files = {
        "report.json": (json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        "report.md": markdown.render(report, report["sheet"] and report["sheet"]["file"]).encode(),
        "report.html": html.render(report, shown.png if shown else None).encode(),
    }
    return files | ({report["sheet"]["file"]: shown.png} if shown else {})


def _record(name: str, data: bytes) -> dict[str, Any]:
    return {"path": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


# -- report.json -------------------------------------------------------------------------------------------


def compose(known: Facts, sheet: dict[str, Any] | None, settings: ReportSettings) -> dict[str, Any]:
    """The content of report.json; equal facts give equal content."""
    groups = contests.groups(known.records)
    found = contests.gather(groups, known.parents, known.settings)
    head = contests.headline(found)
    notes = facts.notes(known)
    setup = _setup(known, groups)
    tried = [(c, [_attack(known, c, *pair, setup["chance"]) for pair in c.ranked]) for c in found]
    priced = [_priced(known, c, attacks) for c, attacks in tried]
    headed = next((listed for c, listed in zip(found, priced, strict=True) if c is head), None)
    cheapest = prices.cheapest_in_words(headed["attackers"]) if headed else None
    report = {
        "schema": SCHEMA,
        "generator": f"ue-audit {__version__}",
        "title": known.title,
        "verdict": verdict.judge(head) | {"cheapest": cheapest},
        "checks": honesty.checks(head, groups, notes),
        "warnings": facts.warnings(known),
        "setup": setup,
        "audits": [
            {"protected": c.protected.folder, "learner": c.protected.learner, **verdict.judge(c)} for c in found
        ],
        "prices": priced,
        "cells": findings.cells(groups, found),
        "countermeasures": [attack for _, attacks in tried for attack in attacks],
        "uncertainty": findings.uncertainty(head, _repeats(known, head)) if head else None,
        "readings": findings.readings(head) if head else [],
        "published": beside.gather(known, groups),
        "curves": [findings.curve(group) for group in groups],
        "per_class": findings.per_class(head) if head else [],
        "fidelity": facts.fidelity(known),
        "prior": facts.prior(known),
        "sheet": sheet,
        "limits": verdict.limits(head, groups, notes),
        "commands": [*known.commands, _command(settings)],
        "provenance": facts.provenance(known),
    }
    rounded: dict[str, Any] = _rounded(report)
    return rounded


def _command(settings: ReportSettings) -> str:
    return command("report", ReportSettings(**portable(recorded(settings), settings.place().resolve().parent)))


def _setup(known: Facts, groups: list[Group]) -> dict[str, Any]:
    first = known.records[0]
    recipes = {g.learner: g.records[0] for g in groups}
    return {
        "images": first["images"],
        "classes": len(first["per_class"]),
        "chance": 1 / len(first["per_class"]) if first["per_class"] else None,
        "n_test": first["n_test"],
        "n_val": first["n_val"],
        "seeds": min(g.arm().seeds for g in groups),
        "reading": READING,
        "learners": [
            {"name": name, "epochs": record["epochs"], "recipe": record["recipe"]} for name, record in recipes.items()
        ],
    }


def _attack(known: Facts, contest: Contest, treated: Group, ceiling: Group | None, chance: float) -> dict[str, Any]:
    made = known.made.get(treated.folder) if treated.role == "purified" else None
    guide = facts.guide_of(made) if made else None
    recipe = treated.records[0]["recipe"] if treated.kind == "countermeasure" else {}
    more = {
        "seconds": known.seconds(treated.folder if made else None, treated.records),
        "device": known.device(treated.folder),
        "settings": recipe | (made.config | ({"guide used": guide} if guide else {}) if made else {}),
    }
    return findings.attack(contest, treated, ceiling, chance) | more


def _priced(known: Facts, contest: Contest, attacks: list[dict[str, Any]]) -> dict[str, Any]:
    """The price list of one protected set under one victim."""
    rows = [
        {key: attack[key] for key in prices.RESULT} | outlay.of(known, contest, treated)
        for attack, (treated, _) in zip(attacks, contest.ranked, strict=True)
    ]
    return prices.listing(contest.protected.folder, contest.protected.learner, contest.effect.value, rows)


def _repeats(known: Facts, contest: Contest) -> list[Group]:
    """The chosen attack, and the same with other seeds of purification."""
    best = contest.best[0] if contest.best else None
    again = known.alike(best.folder) if best and best.role == "purified" else []
    return [g for g, _ in contest.attacks if best and g.folder in again and g.learner == best.learner]


def _rounded(value: Any) -> Any:
    """Floats to six decimals: more would only differ between machines."""
    if isinstance(value, float):
        return round(value, 6) + 0.0
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list | tuple) else value


# -- manifest ----------------------------------------------------------------------------------------------


def _statement(settings: ReportSettings, known: Facts, report: dict[str, Any]) -> Manifest:
    judged = report["verdict"]
    return manifest.statement(
        stage="report",
        method="report",
        settings=settings,
        dependencies=[_evaluated(settings)],
        counts={"trainings": len(known.records)},
        notes={"verdict": judged["sentence"]},
        warnings=[f"{c['name']}: {c['text']}" for c in report["checks"] if c["state"] in ("fail", "warn")],
        summary={
            "survival": judged["survival"] and judged["survival"]["value"],
            "its lower end": judged["survival"] and judged["survival"]["low"],
            "grade": judged["grade"] or "none",
        },
        next=f"ue-audit verify --chain {settings.place()}",
    )


def _evaluated(settings: ReportSettings) -> Dependency:
    return manifest.dependency("evaluation", settings.evaluation, output=settings.place())


def _test_result(
    settings: ReportSettings, known: Facts, head: Contest | None, report: dict[str, Any], data: bytes
) -> bytes:
    """The statement about the protected set of the verdict; about the evaluation where nothing was audited."""
    name = head.protected.folder if head else ""
    subject = (name, known.digests[name]) if name in known.digests else (known.title, known.evaluation.tree)
    return attestation.statement(report, subject, _evaluated(settings), data, settings.fail_under)
