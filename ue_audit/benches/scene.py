"""What the parts share: real images, a protected set and a prior, each made once, and how much of each is measured.

The images are those of the demo (CIFAR-10, 4 classes): nothing is timed on noise or zeros.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ue_audit import audit, cells, demo, imagefolder, protect, shards, train_prior
from ue_audit.errors import UsageError
from ue_audit.imagefolder import ImageData
from ue_audit.progress import SILENT, Progress
from ue_audit.settings import ProtectSettings, TrainPriorSettings
from ue_audit.tool_settings import BenchSettings
from ue_audit.tools import Tools, pick_device
from ue_audit.training import lpips_weights

EPS = 8 / 255  # of the protections here


class Amounts(NamedTuple):
    """How much is measured; `--limit` and `--repeats` replace `images` and `repeats`."""

    images: int  # purified in a run
    repeats: int  # rounds of a comparison
    starts: int  # of the command line
    evaluations: int  # images to which the published network is applied at once
    prior_steps: int  # of each prior whose curve is drawn
    stage_steps: int  # of a prior whose rate is told
    growth_images: tuple[int, ...]
    growth_sizes: tuple[int, ...]
    seeds: int  # trainings behind an accuracy


FULL = Amounts(128, 3, 7, 16, 1000, 100, (500, 2000, 8000, 32_000), (32, 64, 96, 128, 224), 3)
QUICK = Amounts(16, 1, 2, 1, 8, 2, (32, 64), (32, 64), 1)
QUICK_PRIOR = {"steps": 20, "check_every": 20, "t_max": 80}  # of the preset `tiny`, for --quick
AUDIT = "demo"  # the audit whose protection and prior these are


class Cast(NamedTuple):
    """x and x_ue (N,3,S,S) row by row, and the protected set as methods see it."""

    x: Tensor
    x_ue: Tensor
    data: ImageData


class Scene:
    """A place for files, the device, and what the parts share. Made by `scene`."""

    def __init__(self, settings: BenchSettings, place: Path, progress: Progress = SILENT) -> None:
        amounts = QUICK if settings.quick else FULL
        self.amounts = amounts._replace(
            images=settings.limit or amounts.images,
            repeats=settings.repeats or amounts.repeats,
            seeds=settings.seeds or amounts.seeds,
        )
        self.settings, self.place, self.progress = settings, place, progress
        self.device = pick_device(settings.device)
        self._protected: dict[int | None, Path] = {}

    @cached_property
    def images(self) -> Path:
        """train/, test/, val/ and raw/ of the demo."""
        return demo.unpack(self.place / "data")

    @cached_property
    def prior(self) -> Path:
        """The prior named, else the demo's, trained here."""
        if self.settings.prior is not None:
            return self.settings.prior
        preset, fields = ("tiny", QUICK_PRIOR) if self.settings.quick else ("small", self._demo.prior.set)
        self.progress.say(f"training a prior to measure with: {preset}")
        settings = TrainPriorSettings(
            raw=self.images / "raw",
            preset=preset,
            layers={"file": dict(fields)},
            output=self.place / f"{preset}.prior.ckpt",
            **self.running,
        )
        return self.stage(train_prior, settings)

    def protected(self, images: int | None) -> Path:
        """The demo's EMN on the first `images` of the classes, evenly; with --quick LSP, which costs nothing."""
        if images not in self._protected:
            self._protected[images] = self._protect(images)
        return self._protected[images]

    def _protect(self, images: int | None) -> Path:
        choice = self._demo.protections[0]
        method, fields = ("lsp", {}) if self.settings.quick else (choice.method, choice.set)
        self.progress.say(f"protecting {images or 'all'} images to measure with: {method}")
        settings = ProtectSettings(
            source=self.images / "train",
            method=method,
            layers={"file": dict(fields)},
            limit=images,
            output=self.place / f"{method}{images or ''}",
            **self.running,
        )
        return self.stage(protect, settings)

    @cached_property
    def cast(self) -> Cast:
        """The images that are purified, clean and protected."""
        folder, limit = self.protected(self.amounts.images), self.amounts.images
        clean = imagefolder.intake(imagefolder.scan(self.images / "train", limit=limit)).data
        found = imagefolder.intake(imagefolder.scan(folder)).data
        data = cells.align(found, cells.original_keys(folder), clean.keys, folder)
        rows = torch.arange(len(data))
        return Cast(clean.batch(rows), data.batch(rows), data)

    @cached_property
    def weights(self) -> dict[str, Path]:
        """The prior, and LPIPS where it is found."""
        lpips = lpips_weights.find()
        return {"prior": self.prior} | ({"lpips": lpips} if lpips else {})

    def tools(self) -> Tools:
        """What a method gets, without a work folder."""
        return Tools(device=self.device, seed=self.settings.seed, weights=self.weights, eps=EPS)

    @property
    def running(self) -> dict[str, Any]:
        """Settings that every stage here shares."""
        return {"device": str(self.device), "seed": self.settings.seed}

    @cached_property
    def _demo(self) -> audit.AuditSettings:
        asked, _ = audit.load(AUDIT, {"source.clean": self.images, "source.raw": self.images / "raw"})
        return asked

    def stage(self, stage: Any, settings: Any) -> Path:
        """A stage's output in this place; one that is there already is taken as it is."""
        with shards.lock(settings.place()):
            made: Path = stage.run(settings, self.progress)
        return made


@contextmanager
def scene(settings: BenchSettings, progress: Progress = SILENT) -> Iterator[Scene]:
    """A scene in `settings.keep`, or in a folder that goes with it. Raises UsageError for a prior that is not there."""
    if settings.prior is not None and not settings.prior.is_file():
        raise UsageError(f"expected a prior, found no file at {settings.prior}")
    if settings.keep is not None:
        settings.keep.mkdir(parents=True, exist_ok=True)
        yield Scene(settings, settings.keep, progress)
        return
    with tempfile.TemporaryDirectory(prefix="ue-audit.bench.") as folder:
        yield Scene(settings, Path(folder), progress)
