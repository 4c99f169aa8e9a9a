"""The published figures: `presets/published.yaml`, read and checked. Which of them are comparable: `comparable`."""

from collections.abc import Iterator
from functools import cache
from typing import Any, Literal, NamedTuple

from pydantic import Field, model_validator

from ue_audit.config import Config, Levels, load_preset, load_yaml, presets_root
from ue_audit.errors import UsageError

FILE = "published.yaml"
NONE = "none"  # no countermeasure
CLEAN = "clean"  # no protection


class Source(Config):
    title: str
    arxiv: str | None = None

    @property
    def paper(self) -> str:
        return f"{self.title} (arXiv {self.arxiv})" if self.arxiv else self.title


class Dataset(Config):
    """How a data set is recognised. Without class names it never is."""

    title: str
    size: int
    train: int | None = None
    test: int | None = None
    classes: tuple[str, ...] = ()
    by_counts: bool = False
    lossy: bool = False  # its originals are JPEG files


class Recipe(Config):
    """A protection, purifier or learner of ours with what of its settings must be equal, or one that is `foreign`."""

    title: str
    method: str | None = None
    preset: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    linf: Levels | None = None
    l2: float | None = None
    l0: int | None = None
    foreign: str | None = None

    @model_validator(mode="after")
    def _ours_or_foreign(self) -> "Recipe":
        if (self.method is None) == (self.foreign is None):
            raise ValueError("expected `method` or `foreign`, and not both")
        return self

    def fields(self, stage: str) -> dict[str, Any]:
        """What must be equal: the fields of the preset, and the settings on top."""
        preset = load_preset(stage, self.preset) if self.preset else {}
        return {key: value for key, value in preset.items() if key != "method"} | self.settings


class Conditions(Config):
    """What the figures of one table have in common."""

    source: str
    place: str
    mark: str
    dataset: str
    learner: str
    images: int | None = None
    epochs: int | None = None
    runs: int | None = None
    reading: Literal["last", "peak"] = "last"
    note: str = ""
    prior: str | None = None
    own: int | None = None


class Table(Config):
    at: Conditions
    figures: dict[str, dict[str, float | tuple[float, float]]]


class Figure(NamedTuple):
    """One published accuracy (0..1), its standard deviation over runs if one is given, and its conditions."""

    at: Conditions
    protection: str
    purifier: str
    value: float
    spread: float | None


class Published(Config):
    """The whole file, its names checked against each other."""

    marks: dict[str, str]
    sources: dict[str, Source]
    datasets: dict[str, Dataset]
    protections: dict[str, Recipe]
    purifiers: dict[str, Recipe]
    learners: dict[str, Recipe]
    tables: tuple[Table, ...]

    @model_validator(mode="after")
    def _names(self) -> "Published":
        for figure in self.figures():
            at = figure.at
            named = (
                ("sources", at.source), ("marks", at.mark), ("datasets", at.dataset), ("learners", at.learner),
                ("protections", figure.protection), ("purifiers", figure.purifier),
            )  # fmt: skip
            lacking = [f"{k}: {n}" for k, n in named if n not in getattr(self, k) and n not in (NONE, CLEAN)]
            if lacking or not 0 <= figure.value <= 1:
                raise ValueError(f"{at.source}, {at.place}: cannot be used: {lacking or figure.value}")
        return self

    def figures(self) -> Iterator[Figure]:
        """Every figure, in the order of the file."""
        for table in self.tables:
            for purifier, row in table.figures.items():
                for protection, given in row.items():
                    value, spread = given if isinstance(given, tuple) else (given, None)
                    yield Figure(table.at, protection, purifier, value / 100, spread and spread / 100)


@cache
def load() -> Published:
    """The published figures. Raises UsageError where the file is damaged."""
    try:
        return Published(**load_yaml(presets_root() / FILE))
    except ValueError as error:
        raise UsageError(f"{FILE} cannot be used: {error}", hint="reinstall ue-audit") from error
