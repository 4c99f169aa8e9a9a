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
    facts,
    imagefolder,
    lineup,
    manifest,
    shards,
    sitting,
    trainings,
)
from ue_audit.errors import ResourceError, UsageError
from ue_audit.imagefolder import ImageData
from ue_audit.progress import SILENT, Progress
from ue_audit.settings import EvaluateSettings, Plan
from ue_audit.spelling import pasted
from ue_audit.statement import Manifest, RunDetails, statement
from ue_audit.tools import Tools, pick_device
from ue_audit.trainings import Exam, Training, exam_digest


def run(settings: EvaluateSettings, progress: Progress = SILENT) -> Path:
    """Train and test every cell x learner x seed not yet recorded, and with `max_seeds` as many more as `additions`
    says; returns the sealed evaluation folder. One that is there goes on if this asks for all that it has, and more.

    Raises UsageError (sets that do not belong together, no clean originals or test images), InputRefused.
    """
    output = settings.place()
    shards.refuse_overlap(output, list(settings.folders))
    exam = _prepare(settings, imagefolder.spill(settings.cache or output.parent), progress)
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
    exam = _prepare(settings, imagefolder.spill(settings.cache or settings.place().parent), SILENT)
    crew.serve(sitting.asking(settings, exam).possible, exam, shards.scratch(settings.place()))


def plan(settings: EvaluateSettings, progress: Progress = SILENT) -> Plan:
    """What `run` would do: the number of trainings, and their time from one timed epoch; writes nothing."""
    exam = _prepare(settings, None, progress)
    todo = list(trainings.enumerate_all(exam, settings.seeds, settings.seed))
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
            f"{len(todo)} trainings of {len(exam.cells)} sets with {settings.seeds} seeds",
            *_counts(todo),
            *_additions(settings),
        ),
    )


def _additions(settings: EvaluateSettings) -> tuple[str, ...]:
    most = settings.max_seeds or settings.seeds
    more = f"up to {most} seeds where an interval leaves a verdict open: not in the estimate"
    return (more,) if most > settings.seeds else ()


def _counts(todo: list[Training]) -> tuple[str, ...]:
    return tuple(f"{label}: {count}" for label, count in Counter(t.learner.label for t in todo).items())


def _estimate(exam: Exam, todo: list[Training]) -> float:
    """Seconds of all trainings one after the other: the first epoch of the first learner, timed, and every learner's
    passes in proportion."""
    clean, first = exam.cells[0].data, exam.learners[0].chosen
    tools, start = Tools(device=exam.device, weights=exam.weights), time.monotonic()
    epoch = next(iter(first.module.fit(clean.with_beside(clean, exam.own), first.config, tools)))
    spent: float = first.module.passes(first.config, len(clean)) * epoch.number / getattr(first.config, "epochs", 1)
    asked: float = sum(t.learner.chosen.module.passes(t.learner.chosen.config, len(clean)) for t in todo)
    return (time.monotonic() - start) * asked / (spent or 1.0)


# -- what to train on and to test on -----------------------------------------------------------------------


def _prepare(settings: EvaluateSettings, array: Any, progress: Progress) -> Exam:
    device = pick_device(settings.device)
    learners = lineup.gather(settings.learners, settings.layers)

    def intake(path: Path, asked: EvaluateSettings = settings) -> ImageData:
        root = imagefolder.parts(path).train
        taken = imagefolder.take_in(root, asked, array=array, progress=progress)
        manifest.check_taken(root, taken.sources)
        return taken.data

    clean = imagefolder.parts(settings.clean).train if settings.clean else None
    folders = [imagefolder.parts(folder).train for folder in settings.folders]
    gathered = cells.gather(folders, clean, settings.noise_control, settings.seed, intake)
    family = cells.family(folders, clean)
    paths = {path.name: path for path in family}
    if len(paths) < len(family) or set(facts.HELD_OUT) & set(paths):
        found = ", ".join(path.name for path in family)
        raise UsageError(
            f"expected sets of different names, none of them {', '.join(facts.HELD_OUT)}, found {found}",
            hint="the report tells sets apart by the names of their folders: rename one",
        )
    size = gathered[0].data.size
    whole = settings.model_copy(update={"size": settings.size or size, "limit": None})
    test_path, val_path = _held_out(settings, paths[gathered[0].folder])
    test = _with_classes(intake(test_path, whole), gathered[0].data, test_path)
    paths["test"] = test_path
    if val_path is not None:
        val, val_from = _with_classes(intake(val_path, whole), gathered[0].data, val_path), "its own folder"
        paths["val"] = val_path
    else:
        (val, test), val_from = cells.split_by_hash(test), "half of the test images, by the hash of their names"
    if not len(val) or not len(test):
        raise UsageError(f"expected validation and test images, found {len(val)} and {len(test)}: {test_path}")
    own = None
    if settings.own is not None:
        own = _with_classes(intake(settings.own, whole), gathered[0].data, settings.own)
        paths["own"] = imagefolder.parts(settings.own).train
    return Exam(gathered, learners, val, test, val_from, paths, device, own, settings.encoder, settings.cross)


def _held_out(settings: EvaluateSettings, clean: Path) -> tuple[Path, Path | None]:
    """The test and validation folders: as named, else through the manifests, else beside the clean images."""
    given = [*settings.folders, clean]
    beside = imagefolder.parts(clean.parent) if clean.name == "train" else imagefolder.parts(clean)
    test = settings.test or next((t for f in given if (t := manifest.test_of(f))), None) or beside.test
    val = settings.val or next((v for f in given if (v := manifest.val_of(f))), None) or beside.val
    if test is None:
        raise UsageError("clean test images are needed and were not found", hint="name them: --test data/test")
    return test, val


def _with_classes(data: ImageData, train: ImageData, path: Path) -> ImageData:
    """`data` with the label numbers of the training classes; UsageError for a class that is never trained."""
    try:
        return data.with_classes(train.classes)
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", hint="test images need the class folders of training") from error


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
