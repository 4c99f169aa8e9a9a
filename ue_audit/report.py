"""report: an evaluation -> verdict. Manifests and records in; report.json out, and Markdown, HTML, image sheet of it.

report.json is the truth, the rest is rendered from it. Schema 1, shares and accuracies from 0 to 1, null where
nothing was measured, an *estimate* being {"value", "low", "high"} with its 95 % interval:

    schema, generator, title
    verdict           sentence; grade (A to F) or null and no_grade (reasons); survival, effect (estimates);
                      chosen {countermeasure, folder, learner}; cheapest (a successful attack, in words); plain (the
                      same for readers who do not know the field, sentences)
    checks            [{name, state: ok|warn|fail|unknown, text}], the worst first;  warnings of the stages
    setup             images, classes, chance, n_test, n_val, seeds (the fewest of a cell), reading,
                      learners [{name, epochs, recipe}]
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
    seeds_added       {from, to (the most), sets: [{protected, learner, seeds (of the protected set), added, open
                      (still), looks: [{seeds, of: effect|survival, low, high (null: no interval), holds (boundaries)}],
                      sentence}]}: who got more seeds than planned; null where nobody was to, or before all planned
                      ones were there
    readings          [{reading: last|chosen|peak, title, clean, protected, purified, survival}]
    published         dataset (as recognised, or null); figures, those that are comparable [{role, folder,
                      countermeasure, learner, reading, accuracy, published, spread, runs, difference, source, place,
                      evidence, differs}]; not_comparable [{cells (training sets), because}]; rules in `comparable`
    curves            [{role, folder, countermeasure, learner, learner_kind, points: [{epoch, mean, low, high}]}]
    per_class         [{class, clean, protected, purified, survival}]
    fidelity          [{folder, linf, psnr, ssim, lpips, residual_correlation: {mean, p5, p95}}]
    prior             {name, images, start, seconds, figures, overlap, near: {"test ∩ prior": duplicates}}
    sheet             {file, columns, rows, tile, alt, caption};  limits, commands
    words             [{word, means}]: the terms of the report, and what is done in each attack
    provenance        [{name, role, parents (names), stage, method, settings (as resolved), seed, digest (12 digits),
                      seconds}]
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from ue_audit import __version__, attestation, contests, facts, manifest, samples, shards
from ue_audit.composing import compose
from ue_audit.contests import Contest
from ue_audit.facts import Facts
from ue_audit.manifest import MANIFEST, Dependency, Manifest
from ue_audit.progress import SILENT, Progress
from ue_audit.rendering import html, markdown
from ue_audit.samples import Samples
from ue_audit.settings import Plan, ReportSettings
from ue_audit.spelling import pasted

FILES = ("report.json", "report.md", "report.html", "report.png", attestation.FILE)


def run(settings: ReportSettings, progress: Progress = SILENT) -> Path:
    """Write the report of `settings.evaluation`; returns its sealed folder.

    Raises UsageError (no evaluation there), IntegrityError (a damaged manifest or records).
    """
    output = settings.place()
    shards.refuse_overlap(output, [settings.evaluation])
    known = facts.gather(settings.evaluation)
    work = shards.Work.open(output, _parameters(settings), fresh=settings.fresh or _went_on(settings))
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


def _went_on(settings: ReportSettings) -> bool:
    """Whether the report that is there was made of this evaluation before more was trained: it is made anew."""
    output, now = settings.place(), _parameters(settings)
    found = manifest.find(output) if (output / MANIFEST).exists() else None
    before = found.dependency("evaluation") if found is not None else None
    if found is None or before is None or found.parameters | {"evaluation": now["evaluation"]} != now:
        return False
    same_place = manifest.locate(output, before).resolve() == settings.evaluation.resolve()
    return same_place and found.parameters != now


def _files(report: dict[str, Any], shown: Samples | None) -> dict[str, bytes]:
    files = {
        "report.json": (json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        "report.md": markdown.render(report, report["sheet"] and report["sheet"]["file"]).encode(),
        "report.html": html.render(report, shown.png if shown else None).encode(),
    }
    return files | ({report["sheet"]["file"]: shown.png} if shown else {})


def _record(name: str, data: bytes) -> dict[str, Any]:
    return {"path": name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}


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
        next=pasted("ue-audit", "verify", "--chain", settings.place()),
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
