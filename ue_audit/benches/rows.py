"""What a part of the bench found: rows of times, goals that are met or not, and what to know about both."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from ue_audit.benches.timing import Measured


@dataclass(frozen=True)
class Row:
    """One contender. `seconds` is the median of `n` runs over `images` images, `spread` their smallest and largest.

    `ratio` is how many times faster an image is done than by `baseline`, the median over rounds in which both ran;
    `ratio_spread` the smallest and largest. `peak_memory` is in bytes. What was not measured is None.
    """

    what: str
    images: int | None = None
    seconds: float | None = None
    spread: tuple[float, float] | None = None
    n: int = 0
    peak_memory: int | None = None
    baseline: str | None = None
    ratio: float | None = None
    ratio_spread: tuple[float, float] | None = None
    figures: dict[str, float | None] = field(default_factory=dict)

    @property
    def images_per_second(self) -> float | None:
        return self.images / self.seconds if self.images and self.seconds else None


@dataclass(frozen=True)
class Goal:
    """What was to be reached, and what was found; None where it was not measured."""

    what: str
    wanted: float
    found: float | None
    at_least: bool = True

    @property
    def met(self) -> bool | None:
        if self.found is None:
            return None
        return self.found >= self.wanted if self.at_least else self.found <= self.wanted


@dataclass(frozen=True)
class Part:
    rows: list[Row]
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def document(self, name: str, title: str) -> dict[str, Any]:
        """Plain values, every row with the name of its part."""
        return {
            "part": name,
            "title": title,
            "rows": [{"part": name, **asdict(row), "images_per_second": row.images_per_second} for row in self.rows],
            "goals": [{**asdict(goal), "met": goal.met} for goal in self.goals],
            "notes": list(self.notes),
        }


def compared(
    measured: Mapping[str, Measured],
    baseline: str,
    *,
    peaks: Mapping[str, int | None] | None = None,
    figures: Mapping[str, Mapping[str, float | None]] | None = None,
) -> list[Row]:
    """A row for every contender that was measured, beside `baseline`, which is one of them."""
    peaks, figures = peaks or {}, figures or {}
    return [
        row(
            what,
            found,
            beside=(baseline, measured[baseline]) if what != baseline else None,
            peak_memory=peaks.get(what),
            figures=figures.get(what),
        )
        for what, found in measured.items()
    ]


def row(
    what: str,
    found: Measured,
    *,
    beside: tuple[str, Measured] | None = None,
    peak_memory: int | None = None,
    figures: Mapping[str, float | None] | None = None,
) -> Row:
    name, other = beside or (None, None)
    ratios = _ratios(found, other) if other else []
    return Row(
        what=what,
        images=found.images,
        seconds=median(found.seconds),
        spread=(min(found.seconds), max(found.seconds)),
        n=len(found.seconds),
        peak_memory=peak_memory,
        baseline=name,
        ratio=median(ratios) if ratios else None,
        ratio_spread=(min(ratios), max(ratios)) if ratios else None,
        figures=dict(figures or {}),
    )


def ratio_of(rows: Sequence[Row], what: str) -> float | None:
    """The ratio of the row of that name."""
    return next((found.ratio for found in rows if found.what == what), None)


def _ratios(found: Measured, other: Measured) -> list[float]:
    """Of every round, by time per image (per run, where images are not counted)."""
    scale = (found.images or 1) / (other.images or 1)
    return [scale * theirs / ours for ours, theirs in zip(found.seconds, other.seconds, strict=True)]
