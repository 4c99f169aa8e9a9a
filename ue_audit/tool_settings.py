"""What the commands beside the stages are asked to do: split, export, compare, detect, bench. Imports nothing heavy."""

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, model_validator

from ue_audit.config import Config
from ue_audit.quantities import Device, Share
from ue_audit.settings import Layers, base_name


class SplitSettings(Config):
    """`split`: what is left of the shares is for training; a part that the source has already is kept."""

    source: Path
    form: Literal[
        "folder", "hf", "cifar10", "cifar100", "svhn", "mnist", "fashion-mnist", "kmnist", "stl10"
    ] = "folder"  # fmt: skip
    raw_share: Share = Field(0.2, lt=1)
    test_share: Share = Field(0.1, lt=1)
    val_share: Share = Field(0.05, lt=1)
    seed: int = Field(0, ge=0)
    limit: int | None = Field(None, ge=1)
    on_bad: Literal["stop", "skip"] = "stop"
    max_bad: Share = 0.01
    fresh: bool = False
    output: Path | None = None
    layers: Layers = Field(default_factory=dict)

    @model_validator(mode="after")
    def _some_left(self) -> "SplitSettings":
        if self.raw_share + self.test_share + self.val_share >= 1:
            raise ValueError("expected shares that leave something for training, found 100% or more together")
        return self

    def place(self) -> Path:
        return self.output or Path(f"{base_name(self.source)}.split")


class ExportSettings(Config):
    """`export`: the images of one output of ue-audit, for others to load."""

    source: Path
    format: Literal["hf", "croissant"] = "hf"
    fresh: bool = False
    output: Path | None = None

    def place(self) -> Path:
        return self.output or Path(f"{base_name(self.source)}.{self.format}")


class CompareSettings(Config):
    """`report --compare`: two reports or evaluations; nothing is written without `output`."""

    compare: tuple[Path, Path]
    output: Path | None = None
    fresh: bool = False


class DetectSettings(Config):
    """`detect` looks at the first `limit` images of the classes, evenly, and writes nothing."""

    source: Path
    clean: Path | None = None
    size: int | None = Field(None, ge=8)
    limit: int = Field(2000, ge=1)
    on_bad: Literal["stop", "skip"] = "stop"
    max_bad: Share = 0.01
    seed: int = Field(0, ge=0)
    device: Device = "auto"


BenchPart = Literal[
    "start-up", "stages", "purification", "published", "training", "prior", "demo", "frontier", "growth"
]  # fmt: skip
BENCH_PARTS: tuple[str, ...] = get_args(BenchPart)
ASKED_PARTS = ("frontier", "growth")  # which take long, and run only when named


class BenchSettings(Config):
    """`bench` decides no result: it times. `limit` images are purified in a run; None stands for benches/scene.py's.

    `keep` is a folder for what is measured with, so that the next bench finds it.
    """

    part: tuple[BenchPart, ...] = ()
    profile: Literal["protect", "train-prior", "purify", "evaluate", "verify"] | None = None
    quick: bool = False
    accuracy: bool = False
    prior: Path | None = None
    demo: Path | None = None
    keep: Path | None = None
    limit: int | None = Field(None, ge=8)
    repeats: int | None = Field(None, ge=1)
    seeds: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)
    device: Device = "auto"
    output: Path | None = None
