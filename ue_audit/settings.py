"""What each stage is asked to do, as the command line or an audit file says it. Imports nothing heavy.

`layers` holds the method's own settings, weakest first: {"preset": {...}, "file": {...}, "flag": {...}}.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ue_audit.config import Config

Layers = dict[str, dict[str, Any]]


class StageSettings(Config):
    """What every stage shares."""

    output: Path | None = None
    layers: Layers = Field(default_factory=dict)
    seed: int = Field(0, ge=0)
    device: str = "auto"
    limit: int | None = Field(None, ge=1)
    fresh: bool = False
    cache: Path | None = None
    on_bad: Literal["stop", "skip"] = "stop"
    max_bad: float = Field(0.01, ge=0, le=1)


class ProtectSettings(StageSettings):
    source: Path
    method: str = "emn"
    size: int | None = Field(None, ge=8)
    resize_output: bool = False

    def place(self) -> Path:
        """The output folder: `-o`, else input base name + method in the working directory."""
        return self.output or Path(f"{base_name(self.source)}.{self.method}")


class TrainPriorSettings(StageSettings):
    raw: Path
    preset: str = "small"
    start: Path | None = None
    size: int | None = Field(None, ge=8)

    def place(self) -> Path:
        return self.output or Path(f"{base_name(self.raw)}.prior.ckpt")


class PurifySettings(StageSettings):
    source: Path
    prior: Path | None = None
    method: str = "jcdp"
    clean: Path | None = None
    size: int | None = Field(None, ge=8)

    def place(self) -> Path:
        return self.output or Path(f"{base_name(self.source)}.{self.method}")


class EvaluateSettings(StageSettings):
    folders: tuple[Path, ...]
    learners: tuple[str, ...] = ("supervised",)
    seeds: int = Field(3, ge=1)
    test: Path | None = None
    val: Path | None = None
    clean: Path | None = None
    size: int | None = Field(None, ge=8)
    noise_control: bool = True

    def place(self) -> Path:
        return self.output or Path(f"{base_name(self.folders[-1]).split('.')[0]}.eval")


class ReportSettings(Config):
    evaluation: Path
    output: Path | None = None
    images: bool = True
    fresh: bool = False

    def place(self) -> Path:
        return self.output or Path(f"{base_name(self.evaluation).removesuffix('.eval')}.report")


def base_name(folder: Path) -> str:
    """`data/` -> "data"; `data/train` -> "data", since `train` names a part and not a set."""
    folder = folder.resolve()
    return folder.parent.name if folder.name in ("train", "test", "val", "raw") else folder.name
