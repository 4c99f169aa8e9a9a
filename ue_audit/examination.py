"""What an evaluation trains on and tests on: its sets, its learners, and what those need, before any training."""

from pathlib import Path
from typing import Any

import torch

from ue_audit import cells, facts, imagefolder, lineup, manifest
from ue_audit.errors import UsageError
from ue_audit.imagefolder import ImageData
from ue_audit.progress import Progress
from ue_audit.settings import EvaluateSettings
from ue_audit.tools import Tools, pick_device
from ue_audit.training import joined
from ue_audit.trainings import Exam


def prepare(settings: EvaluateSettings, array: Any, progress: Progress) -> Exam:
    """All sets of an evaluation, in memory or in what `array` makes.

    Raises UsageError (sets that do not belong together, no clean originals or test images, a learner that lacks
    something), InputRefused, ResourceError.
    """
    device = pick_device(settings.device)
    learners = lineup.gather(settings.learners, settings.layers)
    _require(learners, settings, device)

    def intake(path: Path, asked: EvaluateSettings = settings) -> ImageData:
        root = imagefolder.parts(path).train
        taken = imagefolder.take_in(root, asked, array=array, progress=progress)
        manifest.check_taken(root, taken.sources)
        return taken.data

    clean = imagefolder.parts(settings.clean).train if settings.clean else None
    folders = [imagefolder.parts(folder).train for folder in settings.folders]
    family = cells.family(folders, clean)
    paths = {path.name: path for path in family}
    if len(paths) < len(family) or set(facts.HELD_OUT) & set(paths):
        found = ", ".join(path.name for path in family)
        raise UsageError(
            f"expected sets of different names, none of them {', '.join(facts.HELD_OUT)}, found {found}",
            hint="the report tells sets apart by the names of their folders: rename one",
        )
    gathered = cells.gather(folders, clean, settings.noise_control, settings.seed, intake)
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


def _require(learners: list[lineup.Learner], settings: EvaluateSettings, device: torch.device) -> None:
    """What a learner cannot do without, before the first training. Raises UsageError, ResourceError, IntegrityError."""
    weights = {"encoder": settings.encoder} if settings.encoder is not None else {}
    for learner in learners:
        if "own" in learner.needs and settings.own is None:
            raise joined.none_given(learner.label)
        if (require := getattr(learner.chosen.module, "require", None)) is not None:
            require(learner.chosen.config, Tools(device=device, weights=weights))


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
