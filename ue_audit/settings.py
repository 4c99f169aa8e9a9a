"""What each stage is asked to do, as the command line or an audit file says it. Imports nothing heavy.

`layers` holds the method's own settings, weakest first: {"preset": {...}, "file": {...}, "flag": {...}}.
"""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from ue_audit import sharing
from ue_audit.config import Config, Levels, show_fraction, show_yaml
from ue_audit.systems import spelled

Layers = dict[str, dict[str, Any]]


def parse_share(value: object) -> object:
    """"1%" -> 0.01; anything else is passed on to pydantic."""
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            return float(value.strip()[:-1]) / 100
        except ValueError as error:
            raise ValueError(f"expected a share such as 0.01 or 1%, found {value!r}") from error
    return value


Share = Annotated[float, BeforeValidator(parse_share), Field(ge=0, le=1)]

UNITS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: object) -> object:
    """"1h 30min" -> 5400.0 seconds; anything else, a bare number of seconds, is passed on to pydantic."""
    if not isinstance(value, str) or not re.fullmatch(r"(\s*\d+(\.\d+)?\s*(s|min|m|h|d))+\s*", value):
        return value
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+)\s*([a-z]+)", value))


Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0)]
"""Seconds, also written "2h", "45 min" or "1h 30min"."""

NAME = r"^\w[\w.-]*$"
"""What may become part of a file's name."""


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise ValueError("expected auto, cpu, cuda, cuda:N or mps")
    return value


Device = Annotated[str, AfterValidator(_device)]


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


def base_name(folder: Path) -> str:
    """`data/` -> "data"; `data/train` -> "data", since `train` names a part of a set; a bare `raw/` -> "raw"."""
    place, part = folder.resolve(), folder.name in ("train", "test", "val", "raw") and len(folder.parts) > 1
    return place.parent.name if part else place.name


POSITIONAL = ("source", "raw", "folders", "evaluation")
SPELLED = {
    "output": "-o", "learners": "--learner", "start": "--from", "form": "--from",
    "raw_share": "--raw", "test_share": "--test", "val_share": "--val",
}  # fmt: skip
PASSING = {"fresh", "cache", "reuse", "budget"}  # how a run was asked for, not what was made
UNASKED = {"max_seeds": None}  # what is recorded only where it is something else


def recorded(settings: Config) -> dict[str, Any]:
    """The settings as a manifest keeps them: all that says what was made."""
    found = settings.model_dump(mode="json", exclude=PASSING)
    return {key: value for key, value in found.items() if key not in UNASKED or value != UNASKED[key]}


def command(verb: str, settings: Config) -> str:
    """The line that asks for these settings, ready to paste; what equals its default is left out.

    A file and --set become one list of --set, so that the line stands on its own.
    """
    words, places = ["ue-audit", verb], list[Path]()
    for field, info in type(settings).model_fields.items():
        value = getattr(settings, field)
        if field in POSITIONAL:
            places += value if isinstance(value, tuple) else [value]
        elif value != info.get_default(call_default_factory=True) and not _implied(field, settings):
            words += list(_words(field, value))
    return pasted(*words, *places)


def pasted(*words: object, size: int | None = None) -> str:
    """Words as a line to paste, quoted where they must be; `size`: the working size that the next stage needs, too."""
    return shlex.join(map(spelled, [*words, *(["--size", size] if size else [])]))


def _implied(field: str, settings: Any) -> bool:
    return field == "output" and settings.model_copy(update={"output": None}).place() == settings.output


def _words(field: str, value: Any) -> Iterator[str]:
    if field == "layers":
        for key, part in (item for fields in value.values() for item in fields.items()):
            yield from ("--set", f"{key}={show_yaml(part)}")
    elif isinstance(value, bool):
        yield f"--{field if value else 'no-' + field}".replace("_", "-")
    else:
        for part in value if isinstance(value, tuple) else [value]:
            word = show_fraction(part) if field == "eps" else spelled(part)
            yield from (SPELLED.get(field, f"--{field.replace('_', '-')}"), word)


MODELS: dict[str, type[Config]] = {
    "protect": ProtectSettings,
    "import": AdoptSettings,
    "train-prior": TrainPriorSettings,
    "import-prior": ImportPriorSettings,
    "purify": PurifySettings,
    "merge": MergeSettings,
    "evaluate": EvaluateSettings,
    "report": ReportSettings,
    "detect": DetectSettings,
    "split": SplitSettings,
    "export": ExportSettings,
    "bench": BenchSettings,
}


def made_by(stage: str, fields: dict[str, Any]) -> str:
    """The line that made an output, from its manifest's stage and settings.

    `import` makes outputs of `protect`, and `import-prior` of `train-prior`.
    """
    imported = (stage == "protect" and "clean" in fields) or (stage == "train-prior" and "raw" not in fields)
    verb = {"protect": "import", "train-prior": "import-prior"}[stage] if imported else stage
    return command(verb, MODELS[verb](**fields))
