"""What each stage is asked to do, as the command line or an audit file says it. Imports nothing heavy.

`layers` holds the method's own settings, weakest first: {"preset": {...}, "file": {...}, "flag": {...}}.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from ue_audit import sharing
from ue_audit.config import Config, Levels
from ue_audit.quantities import Device, Duration, Share

Layers = dict[str, dict[str, Any]]


class Plan(Config):
    """What a stage would do, for --dry-run: nothing has been written when it is known."""

    stage: str = ""
    output: str = ""
    images: int
    classes: int = 0
    refused: int = 0
    shards: int = 0
    output_bytes: int = 0
    free_bytes: int = 0
    seconds_estimate: float | None = None
    notes: tuple[str, ...] = ()


class Running(Config):
    """How to run, for every stage and for a whole audit."""

    seed: int = Field(0, ge=0)
    device: Device = "auto"
    limit: int | None = Field(None, ge=1)
    fresh: bool = False
    cache: Path | None = None
    on_bad: Literal["stop", "skip"] = "stop"
    max_bad: Share = 0.01


class StageSettings(Running):
    """What every stage shares."""

    output: Path | None = None
    layers: Layers = Field(default_factory=dict)


class ProtectSettings(StageSettings):
    source: Path
    method: str = "emn"
    encoder: Path | None = None
    ratio: Share = Field(1.0, gt=0)
    size: int | None = Field(None, ge=8)
    resize_output: bool = False

    def place(self) -> Path:
        """The output folder: `-o`, else input base name + method in the working directory."""
        return self.output or Path(f"{base_name(self.source)}.{self.method}")


class AdoptSettings(Config):
    """`import`: nothing in it is random and nothing needs a device. With `size` both sets are taken at S x S."""

    source: Path
    clean: Path
    method: str = Field("imported", max_length=64, pattern=r"^\w[\w.+-]*$")
    size: int | None = Field(None, ge=8)
    limit: int | None = Field(None, ge=1)
    on_bad: Literal["stop", "skip"] = "stop"
    max_bad: Share = 0.01
    fresh: bool = False
    cache: Path | None = None
    output: Path | None = None
    layers: Layers = Field(default_factory=dict)

    def place(self) -> Path:
        return self.output or Path(f"{base_name(self.source)}.{self.method}")


class TrainPriorSettings(StageSettings):
    raw: Path
    preset: str = "small"
    start: Path | None = None
    size: int | None = Field(None, ge=8)

    def place(self) -> Path:
        return self.output or Path(f"{base_name(self.raw)}.prior.ckpt")


class ImportPriorSettings(Config):
    """`import-prior`: a file, a diffusers folder or an entry of a hub cache; `size` is what it was trained at."""

    source: Path
    size: int | None = Field(None, ge=8, le=4096)
    device: Device = "auto"
    fresh: bool = False
    output: Path | None = None
    layers: Layers = Field(default_factory=dict)

    def place(self) -> Path:
        """`-o`, else called after the model in a hub cache, else after the file or folder up to its first dot."""
        parts = self.source.absolute().parts
        entries = [part for part in parts if part.startswith("models--")]
        name = entries[-1].rpartition("--")[2] if entries else parts[-1].lstrip(".").partition(".")[0]
        return self.output or Path(f"{name or 'imported'}.prior.ckpt")


class PurifySettings(StageSettings):
    source: Path
    prior: Path | None = None
    method: str = "jcdp"
    clean: Path | None = None
    eps: Levels | None = Field(None, gt=0, le=1)
    like: Path | None = None
    size: int | None = Field(None, ge=8)
    name: str = Field("", max_length=64, pattern=r"^(\w[\w.+-]*)?$")  # what the report calls it, instead of the method
    shard: sharing.Shard | None = None  # purify one part of the images, I/N

    def place(self) -> Path:
        """The output folder; a part lies beside it."""
        whole = self.output or Path(f"{base_name(self.source)}.{self.name or self.method}")
        return sharing.place(whole, self.shard)


class MergeSettings(Config):
    """`merge`: all parts of one set, in any order; of a single one, the others are looked for beside it."""

    folders: tuple[Path, ...] = Field(min_length=1)
    output: Path | None = None
    fresh: bool = False

    def place(self) -> Path:
        """`-o`, else where one process would have written, beside the first part."""
        return self.output or sharing.whole_of(self.folders[0])


def check_most(seeds: int, max_seeds: int | None) -> None:
    """Seeds are only ever added: a ValueError for fewer at the most than are planned."""
    if max_seeds is not None and max_seeds < seeds:
        raise ValueError(f"expected max_seeds of at least seeds, {seeds}, found {max_seeds}")


class EvaluateSettings(StageSettings):
    folders: tuple[Path, ...]
    learners: tuple[str, ...] = ("supervised",)
    seeds: int = Field(3, ge=1)
    max_seeds: int | None = Field(None, ge=1)
    cross: bool = False
    test: Path | None = None
    val: Path | None = None
    own: Path | None = None
    encoder: Path | None = None
    clean: Path | None = None
    reuse: tuple[Path, ...] = ()
    size: int | None = Field(None, ge=8)
    noise_control: bool = True
    budget: Duration | None = None

    @model_validator(mode="after")
    def _added(self) -> "EvaluateSettings":
        check_most(self.seeds, self.max_seeds)
        return self

    def place(self) -> Path:
        return self.output or Path(f"{base_name(self.folders[-1]).split('.')[0]}.eval")


class ReportSettings(Config):
    evaluation: Path
    output: Path | None = None
    images: bool = True
    fail_under: float | None = None
    fresh: bool = False

    def place(self) -> Path:
        return self.output or Path(f"{base_name(self.evaluation).removesuffix('.eval')}.report")


def base_name(folder: Path) -> str:
    """`data/` -> "data"; `data/train` -> "data", since `train` names a part of a set; a bare `raw/` -> "raw"."""
    place, part = folder.resolve(), folder.name in ("train", "test", "val", "raw") and len(folder.parts) > 1
    return place.parent.name if part else place.name
