"""evaluate: train the same learner on every cell, test it on clean images. One resumable record per training."""

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ue_audit import (
    additions,
    agenda,
    cells,
    crew,
    earlier,
    evidence,
    examination,
    facts,
    imagefolder,
    manifest,
    shards,
    sitting,
    trainings,
)
from ue_audit.errors import ResourceError
from ue_audit.imagefolder import ImageData
from ue_audit.progress import SILENT, Progress
from ue_audit.settings import EvaluateSettings, Plan
from ue_audit.spelling import pasted
from ue_audit.statement import Manifest, RunDetails, statement
from ue_audit.tools import Tools
from ue_audit.trainings import Exam, Training, exam_digest


def run(settings: EvaluateSettings, progress: Progress = SILENT) -> Path:
    """Train and test every cell x learner x seed not yet recorded, and with `max_seeds` as many more as `additions`
    says; returns the sealed evaluation folder. One that is there goes on if this asks for all that it has, and more.

    Raises UsageError (sets that do not belong together, no clean originals or test images), InputRefused.
    """
    output = settings.place()
    shards.refuse_overlap(output, list(settings.folders))
    exam = examination.prepare(settings, imagefolder.spill(settings.cache or output.parent), progress)
    asking = sitting.asking(settings, exam)
    wanted = {training.key for training in asking.possible}
    work = shards.Work.extend(output, _parameters(settings, exam), wanted, fresh=settings.fresh)
    if work.complete and not work.grown and not manifest.read(output).notes.get("left_out"):
        progress.say(f"{output} is up to date")
        return output
    if work.complete and not earlier.reopen(work, asking.asked, settings.budget, sitting.timer(work)):
        progress.say(f"{output} is up to date as far as --budget goes")
        return output
    held = sitting.Sitting(work, exam, settings, progress)
    asked = held.hold(asking)
    if not work.done:
        raise ResourceError(
            f"{output}: the time budget ended before the first training", hint="give more time: a larger --budget"
        )
    left = agenda.left_out(asked, work.done, settings.budget)
    added = {} if settings.max_seeds is None else additions.noted(asking, work.done, settings.max_seeds)
    return work.seal(lambda records: _statement(settings, exam, records, held.seconds, left, added))


def assist(settings: EvaluateSettings) -> None:
    """Another process of torchrun: train what the leader, which is in `run`, hands out."""
    exam = examination.prepare(settings, imagefolder.spill(settings.cache or settings.place().parent), SILENT)
    crew.serve(sitting.asking(settings, exam).possible, exam, shards.scratch(settings.place()))


def plan(settings: EvaluateSettings, progress: Progress = SILENT) -> Plan:
    """What `run` would do: the number of trainings, and their time from one timed epoch; writes nothing."""
    exam = examination.prepare(settings, None, progress)
    asked = list(trainings.enumerate_all(exam, settings.seeds, settings.seed))
    todo = _missing(asked, settings)
    there = f", {len(asked) - len(todo)} of them need not be done again" if len(todo) < len(asked) else ""
    return Plan(
        stage="evaluate",
        output=str(settings.place()),
        images=len(exam.cells[0].data),
        classes=len(exam.cells[0].data.classes),
        shards=len(todo),
        output_bytes=4096 * len(todo),
        free_bytes=shutil.disk_usage(settings.place().resolve().parent).free,
        seconds_estimate=_estimate(exam, todo),
        notes=(
            f"{len(asked)} trainings of {len(exam.cells)} sets with {settings.seeds} seeds{there}",
            *_counts(todo),
            *_additions(settings),
        ),
    )


def _missing(asked: list[Training], settings: EvaluateSettings) -> list[Training]:
    """Those that are neither recorded here nor in an evaluation to be reused; of equal ones the first."""
    there = set() if settings.fresh else earlier.recorded(settings.place())
    known = {t.content for t in asked if t.key in there}
    known |= {content for content, _, _ in earlier.known(settings.reuse, {t.content for t in asked})}
    return list({t.content: t for t in reversed(asked) if t.content not in known}.values())[::-1]


def _additions(settings: EvaluateSettings) -> tuple[str, ...]:
    most = settings.max_seeds or settings.seeds
    more = f"up to {most} seeds where an interval leaves a verdict open: not in the estimate"
    return (more,) if most > settings.seeds else ()


def _counts(todo: list[Training]) -> tuple[str, ...]:
    return tuple(f"{label}: {count}" for label, count in Counter(t.learner.label for t in todo).items())


def _estimate(exam: Exam, todo: list[Training]) -> float:
    """Seconds of the trainings one after the other: the first epoch of the first learner, timed, and every learner's
    passes in proportion."""
    if not todo:
        return 0.0
    clean, first = exam.cells[0].data, exam.learners[0].chosen
    tools, start = Tools(device=exam.device, weights=exam.weights), time.monotonic()
    epoch = next(iter(first.module.fit(clean.with_beside(clean, exam.own), first.config, tools)))
    spent: float = first.module.passes(first.config, len(clean)) * epoch.number / getattr(first.config, "epochs", 1)
    asked: float = sum(t.learner.chosen.module.passes(t.learner.chosen.config, len(clean)) for t in todo)
    return (time.monotonic() - start) * asked / (spent or 1.0)


# -- manifest ----------------------------------------------------------------------------------------------


def _parameters(settings: EvaluateSettings, exam: Exam) -> dict[str, Any]:
    return {
        "stage": "evaluate",
        "learners": {learner.label: learner.recipe for learner in exam.learners},
        "cross": exam.cross,
        "own": exam_digest(exam.own) if exam.own is not None else None,
        "encoder": manifest.file_sha256(exam.encoder) if exam.encoder is not None else None,
        "seeds": settings.seeds,
        **({} if settings.max_seeds is None else {"max_seeds": settings.max_seeds}),
        "seed": settings.seed,
        "size": exam.cells[0].data.size,
        "cells": {f"{c.role} {c.folder}": c.digest for c in exam.cells},
        "test": exam_digest(exam.test),
        "val": exam_digest(exam.val),
    }


def _statement(
    settings: EvaluateSettings,
    exam: Exam,
    records: list[dict[str, Any]],
    seconds: dict[str, float],
    left: dict[str, Any],
    added: dict[str, Any],
) -> Manifest:
    output, first = settings.place(), exam.learners[0].label
    own = [r for r in records if r["learner"] == first]
    means = {
        cell.folder: np.mean(found)
        for cell in exam.cells
        if (found := [r["last"] for r in own if r["cell"] == cell.name])
    }
    shown = {f"last accuracy on {name} (%)": round(100 * float(value), 1) for name, value in means.items()}
    return statement(
        stage="evaluate",
        method="+".join(learner.label for learner in exam.learners),
        config={learner.label: learner.recipe for learner in exam.learners},
        origins={f"{own.label}.{key}": origin for own in exam.learners for key, origin in own.chosen.origins.items()},
        settings=settings,
        dependencies=[
            manifest.dependency(role, path, output=output, digest=digest) for role, path, digest in _parents(exam)
        ],
        counts={
            "trainings": len(records),
            "images": len(exam.cells[0].data),
            "test": len(exam.test),
            "val": len(exam.val),
        },
        notes=evidence.gather(exam)
        | {"val_from": exam.val_from, "partial": settings.limit is not None}
        | {"classes": list(exam.cells[0].data.classes)}
        | ({"left_out": left} if left else {})
        | ({"seeds_added": added} if added else {}),
        warnings=[*_warnings(settings, exam), *([agenda.words(left)] if left else [])],
        summary=shown,
        next=pasted("ue-audit", "report", output),
        run=RunDetails(device=str(exam.device), measures={"training seconds": seconds}),
    )


def _parents(exam: Exam) -> Iterator[tuple[str, Path, dict[str, str]]]:
    """(role, folder, digest): ours by their trees, the owner's by their files as they are now."""
    for name, path in exam.paths.items():
        found = manifest.find(path)
        tree = found.tree if found is not None else manifest.source_digest(imagefolder.scan(path))
        yield (name if name in facts.HELD_OUT else cells.role_of(path)[0]), path, {"tree": tree}


def _warnings(settings: EvaluateSettings, exam: Exam) -> list[str]:
    roles = {cell.role for cell in exam.cells}
    hardened = any(learner.kind == "countermeasure" for learner in exam.learners)
    missing = {
        "protected": "no protected set: there is nothing to audit",
        "noise": "no noise control: the report will give no grade",
        "purified": "no purified set and no learner that hardens another: no attacker was tried",
        "ceiling": "no ceiling: purify the clean images too, so that lost image quality is not taken for protection",
    }
    roles |= ({"purified"} if hardened else set()) | (set() if "purified" in roles else {"ceiling"})
    more = ", and adds seeds from there" if settings.max_seeds is not None else ""
    few = [f"{settings.seeds} seed(s): the report grades from 3{more}"] if settings.seeds < 3 else []
    return [text for role, text in missing.items() if role not in roles] + few + _untested(exam.test)


def _untested(test: ImageData) -> list[str]:
    """Classes that are trained on and have no test image: nobody sees what becomes of them."""
    assert test.labels is not None
    there = set(test.labels.tolist())
    names = [name for number, name in enumerate(test.classes) if number not in there]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return [f"no test images of: {', '.join(names[:8])}{more}"] if names else []
