"""Trainings that are there already: in other evaluations, and in this one's own earlier sittings."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ue_audit import agenda, journal, manifest, shards
from ue_audit.journal import Record
from ue_audit.tools import Tools
from ue_audit.trainings import Training


def known(evaluations: tuple[Path, ...], wanted: set[str]) -> Iterator[tuple[str, dict[str, Any], float]]:
    """(content, record, seconds) of trainings that another evaluation has, each once."""
    for path in evaluations:
        took = manifest.read(path).run.measures.get("training seconds", {})
        for record in manifest.records(path):
            content = record.get("content")
            if content in wanted:
                wanted.discard(content)
                yield content, record, took.get(record["key"], 0.0)


def recorded(output: Path) -> set[str]:
    """The keys of the trainings that an evaluation has, sealed or unfinished; nothing is written, no lock is needed."""
    if (output / manifest.MANIFEST).exists():
        return {record["key"] for record in manifest.records(output)}
    place = output / manifest.JOURNAL
    lines = place.read_bytes().split(b"\n") if place.exists() else []
    return {line["shard"] for text in lines if (line := journal.parsed(text)) is not None and "shard" in line}


def reopen(
    work: shards.Work, asked: Callable[[dict[str, list[Record]]], list[Training]], budget: float | None, timer: Tools
) -> bool:
    """Go on with a sealed evaluation whose budget ended, or that is to have more trainings than when it was sealed.

    `asked` tells from its records which it is to have. False if that is no more and not one of them fits now.
    """
    found = manifest.read(work.output)
    seconds: dict[str, float] = found.run.measures.get("training seconds", {})
    there = {record["key"]: [record] for record in manifest.records(work.output)}
    planned = asked(there)
    following = next((training for training in planned if training.key not in there), None)
    if following and not work.grown and not agenda.fits(following, planned, seconds, found.run.seconds, budget):
        return False
    work.reopen(lambda: timer.save("seconds", lambda: {"seconds": seconds}))
    return True
