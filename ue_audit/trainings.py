"""The trainings of an evaluation: each a cell, a learner and a seed, resumable. `crew` does them."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from ue_audit import __version__, cells, lineup
from ue_audit.cells import Cell
from ue_audit.digests import file_sha256
from ue_audit.errors import NonFiniteError
from ue_audit.imagefolder import ImageData
from ue_audit.lineup import Learner
from ue_audit.progress import Place, Progress
from ue_audit.tools import Tools, substream

TEST_BATCH = {"cpu": 125}  # what its caches hold of `small`: a fifth faster than 500, and to the same bits
USUAL_BATCH = 500


@dataclass(frozen=True)
class Exam:
    """What trainings need: the cells, the learners, clean images to be tested on, and what an attacker may have."""

    cells: list[Cell]
    learners: list[Learner]
    val: ImageData
    test: ImageData
    val_from: str
    paths: dict[str, Path]
    device: torch.device
    own: ImageData | None = None  # the attacker's clean labelled images
    encoder: Path | None = None  # pretrained weights
    cross: bool = False

    @property
    def weights(self) -> dict[str, Path]:
        """What `Tools` finds weights by."""
        return {"encoder": self.encoder} if self.encoder is not None else {}


class Training(NamedTuple):
    """One training; `content` is the hash of all that decides its result, `key` names it within its evaluation."""

    cell: Cell
    learner: Learner
    seed: int
    content: str
    key: str


class Done(NamedTuple):
    """A finished training, its line for the records, and the seconds it took."""

    training: Training
    record: dict[str, Any]
    seconds: float


class Stopped(BaseException):
    """Ends a training between two epochs because another one failed or the user asked."""


def enumerate_all(exam: Exam, seeds: int, seed: int) -> Iterator[Training]:
    """Seed by seed, so that an early stop leaves whole rows of the table."""
    held_out = [exam_digest(exam.val), exam_digest(exam.test)]
    digests = [cell.digest for cell in exam.cells]
    beside = {
        "own": exam_digest(exam.own) if exam.own is not None else None,
        "encoder": file_sha256(exam.encoder) if exam.encoder is not None else None,
    }
    for number in range(seeds):
        own = substream(seed, "training", number)
        for learner in exam.learners:
            used = {need: beside[need] for need in learner.needs if need in beside}
            for cell, digest in zip(exam.cells, digests, strict=True):
                if learner.takes(cell, exam.cross):
                    parts = [__version__, digests[0], digest, held_out, learner.chosen.name, learner.recipe, used, own]
                    content = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]
                    key = f"{content}-{cell.role}-{lineup.tag(cell.folder, learner.label)}"
                    yield Training(cell, learner, own, content, key)


def exam_digest(data: ImageData) -> str:
    """sha256 over pixels, labels and classes."""
    return Cell("test", "", None, data).digest


class Bar:
    """One bar for all trainings, in epochs, drawn from several threads; and the sign to stop."""

    def __init__(self, progress: Progress, epochs: int) -> None:
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._progress = progress
        progress.start("training", epochs, "epochs")

    def check(self) -> None:
        if self.stopped.is_set():
            raise Stopped

    def epochs(self, count: int, accuracy: float) -> None:
        self.check()
        with self._lock:
            self._progress.advance(count, accuracy=accuracy)


def train(
    training: Training, exam: Exam, scratch: Path, bar: Bar, saved: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Fit, test after every epoch, and sum up. What was measured so far outlives a kill beside the learner's state;
    `saved` is called when either has been saved."""
    cell, work = training.cell, scratch / training.key
    tools = Tools(device=exam.device, seed=training.seed, work=work, weights=exam.weights, saved=saved)
    found = tools.restore("curve") or {"curve": [], "per_class": {}}
    data = cell.data.with_beside(exam.cells[0].data, exam.own)
    for epoch in training.learner.chosen.module.fit(data, training.learner.chosen.config, tools):
        if not np.isfinite(epoch.loss):
            raise NonFiniteError(f"{cell.folder}: the training loss became {epoch.loss} in epoch {epoch.number}")
        right = _right(epoch.predict, exam.test, exam.device)
        val = float(_right(epoch.predict, exam.val, exam.device).mean())
        point = {"epoch": epoch.number, "loss": epoch.loss, "val": val, "test": float(right.mean())}
        before = [p for p in found["curve"] if p["epoch"] < epoch.number]
        found = {"curve": [*before, point], "per_class": _per_class(right, exam.test)}
        tools.save("curve", lambda found=found: found)  # type: ignore[misc]
        bar.epochs(epoch.number - (before[-1]["epoch"] if before else 0), point["test"])
    return _record(training, exam, found["curve"], found["per_class"]) | ({"notes": tools.notes} if tools.notes else {})


def _right(predict: Callable[[torch.Tensor], torch.Tensor], data: ImageData, device: torch.device) -> np.ndarray:
    """Which images are classified correctly, (N,) bool."""
    assert data.labels is not None
    hits = []
    for rows in torch.split(torch.arange(len(data)), TEST_BATCH.get(device.type, USUAL_BATCH)):
        hits.append(predict(data.batch(rows).to(device)).argmax(1).cpu() == data.labels[rows])
    return torch.cat(hits).numpy()


def _per_class(right: np.ndarray, data: ImageData) -> dict[str, float]:
    assert data.labels is not None
    labels = data.labels.numpy()
    return {c: float(right[labels == k].mean()) for k, c in enumerate(data.classes) if (labels == k).any()}


def places(planned: Sequence[Training], paths: Mapping[str, Path]) -> dict[str, Place]:
    """Where each training, by its key, stands in the matrix of its evaluation."""
    seeds = list(dict.fromkeys(t.seed for t in planned))
    found = {}
    for t in planned:
        column = "clean" if t.cell.role in ("clean", "ceiling") else cells.protected_of(t.cell, paths)
        row = t.cell.countermeasure or ("noise" if t.cell.role == "noise" else "none")
        found[t.key] = Place(column, row, t.learner.label, t.cell.folder, seeds.index(t.seed))
    return found


def named(training: Training) -> dict[str, Any]:
    """What a record says of the place of a training in its evaluation; the rest of it depends on its content alone."""
    return {
        "path": f"trainings/{training.key}",
        "key": training.key,
        "content": training.content,
        "cell": training.cell.name,
        **training.learner.name,
    }


def _record(training: Training, exam: Exam, curve: list[dict[str, Any]], per_class: dict[str, float]) -> dict[str, Any]:
    """The line of `ue-audit.records.jsonl`; it holds no time, so that a resumed run writes the same bytes."""
    peak = max(curve, key=lambda point: point["test"])
    chosen = max(curve, key=lambda point: (point["val"], point["epoch"]))
    return {
        **named(training),
        "recipe": training.learner.recipe,
        "seed": training.seed,
        "images": len(training.cell.data),
        "epochs": curve[-1]["epoch"],
        "curve": curve,
        "last": curve[-1]["test"],
        "peak": peak["test"],
        "peak_epoch": peak["epoch"],
        "chosen": chosen["test"],
        "chosen_epoch": chosen["epoch"],
        "val_last": curve[-1]["val"],
        "val_chosen": chosen["val"],
        "per_class": per_class,
        "n_test": len(exam.test),
        "n_val": len(exam.val),
    }
