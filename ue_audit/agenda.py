"""Which training comes next, and where a time budget ends. Pure: no files, no torch.

First what every verdict stands on, then what only makes it finer:

    one seed of the first learner on the clean, protected, noise and purified sets → the same on the ceilings
    → its further seeds, one after the other → the other learners, seed by seed, protected sets before clean ones
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ue_audit.rendering.figures import duration

if TYPE_CHECKING:
    from ue_audit.trainings import Training

ROLES = ("clean", "protected", "noise", "purified", "ceiling")
SHOWN = 12  # sets that are named, of those left out


def order(planned: Iterable["Training"]) -> list["Training"]:
    """The trainings, those first that can change most; `planned` holds the first learner and the first seed first."""
    planned = list(planned)
    learners = list(dict.fromkeys(t.learner.label for t in planned))
    seeds = list(dict.fromkeys(t.seed for t in planned))

    def rank(t: "Training") -> tuple[bool, int, bool, int, int]:
        hardened = t.learner.kind == "countermeasure"
        ceiling = t.cell.role == "ceiling" or (hardened and t.cell.role == "clean")
        extra = t.learner.label != learners[0]
        return extra, seeds.index(t.seed), ceiling, learners.index(t.learner.label), ROLES.index(t.cell.role)

    return sorted(planned, key=rank)


def expected(training: "Training", took: Sequence[tuple["Training", float]]) -> float:
    """Seconds that a training will take: the mean of its learner's, else of all in proportion to the passes of a
    network that they spend; 0 where none was measured."""
    own = [seconds for done, seconds in took if done.learner.label == training.learner.label]
    if own:
        return sum(own) / len(own)
    spent = sum(passes(done) for done, _ in took)
    return passes(training) * sum(seconds for _, seconds in took) / spent if spent else 0.0


def fits(
    training: "Training",
    planned: Iterable["Training"],
    seconds: Mapping[str, float],
    elapsed: float,
    budget: float | None,
) -> bool:
    """Whether a training would end within the budget, by the `seconds` that those before it took, by their keys."""
    took = [(t, seconds[t.key]) for t in planned if t.key in seconds]
    return budget is None or elapsed + expected(training, took) <= budget


def passes(training: "Training") -> float:
    """Forward and backward passes of a network that a training spends on each image."""
    chosen = training.learner.chosen
    found: float = chosen.module.passes(chosen.config, len(training.cell.data))
    return found


def left_out(planned: Sequence["Training"], kept: Iterable[str], budget: float | None) -> dict[str, Any]:
    """For the manifest: which trainings were not begun, by set and learner; {} where all were."""
    there = set(kept)
    cells: dict[tuple[str, str, str], list[bool]] = {}
    for t in planned:
        cells.setdefault((t.cell.role, t.cell.folder, t.learner.label), []).append(t.key in there)
    missing = [
        {"role": role, "folder": folder, "learner": learner, "trained": sum(found), "of": len(found)}
        for (role, folder, learner), found in cells.items()
        if not all(found)
    ]
    count = sum(t.key not in there for t in planned)
    return {"budget": budget, "trainings": count, "of": len(planned), "cells": missing} if missing else {}


def words(found: Mapping[str, Any]) -> str:
    """What `left_out` says, in a sentence or two."""
    given = duration(found["budget"])
    opening = f"{found['trainings']} of {found['of']} trainings left out: --budget gave them {given}"
    whole = [_named(cell) for cell in found["cells"] if not cell["trained"]]
    fewer = [f"{_named(cell)} ({cell['trained']} of {cell['of']})" for cell in found["cells"] if cell["trained"]]
    parts = [(f"not trained on at all: {_listed(whole)}", whole), (f"with fewer seeds: {_listed(fewer)}", fewer)]
    return "; ".join([opening, *(text for text, some in parts if some)])


def _named(cell: Mapping[str, Any]) -> str:
    return f"{cell['folder']} with {cell['learner']}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join([*names[:SHOWN], *([f"and {more} more"] if more > 0 else [])])
