"""Which parts make up one set: all there, each once, made alike, and holding what they say they hold."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ue_audit import journal, manifest, shards, sharing
from ue_audit.config import resolve
from ue_audit.digests import OURS
from ue_audit.errors import IntegrityError, UsageError
from ue_audit.journal import Record
from ue_audit.settings import PurifySettings
from ue_audit.spelling import command
from ue_audit.statement import Manifest

OWN = ("shard", "output", "device", "source", "prior", "clean", "like")  # settings in which parts may differ


class Part(NamedTuple):
    """A sealed part: where it lies, its manifest, what it was asked for, its records, and its shards' rows."""

    path: Path
    manifest: Manifest
    asked: PurifySettings
    records: list[Record]
    dealt: dict[int, range]

    @property
    def number(self) -> int:
        return self.of()[0]

    def of(self) -> tuple[int, int]:
        """(2, 4): the second of four."""
        return sharing.parse(self.asked.shard or "1/1")


def gather(folders: Sequence[Path]) -> list[Part]:
    """The parts of one set, first to last; of a single folder, also those that belong to it and lie beside it.

    Raises UsageError for a folder that is no part, a part that is missing, there twice, or made in another way, and
    IntegrityError for one that is unfinished or not what it says.
    """
    paths = sharing.beside_it(folders[0]) if len(folders) == 1 else folders
    parts = sorted((_opened(path) for path in paths), key=lambda part: part.of())
    _check_all_there(parts)
    for part in parts[1:]:
        _check_alike(parts[0], part)
    for part in parts:
        _check_rows(part)
    places = Counter(record["path"] for part in parts for record in part.records)
    twice = [path for path, count in places.items() if count > 1]
    if twice:
        raise IntegrityError(f"{len(twice)} images are in several parts, the first: {twice[0]}", details=twice)
    return parts


def _opened(path: Path) -> Part:
    made = manifest.read(path)
    if made.stage != "purify" or made.status != "partial":
        found = f"a whole set of {made.stage}" if made.status == "complete" else f"an output of {made.stage}"
        raise UsageError(f"expected a part that purify --shard made, found {found}: {path}", hint="leave it out")
    asked, _ = resolve(PurifySettings, {"manifest": made.settings}, str(path))
    listed = shards.plan(made.counts["taken"], made.parameters["size"] ** 2)
    dealt = sharing.dealt(listed, asked.shard)
    return Part(path, made, asked, manifest.records(path), dealt)


def _check_all_there(parts: list[Part]) -> None:
    """Every number of the division exactly once."""
    count = parts[0].of()[1]
    lines = [f"{part.path}: part {sharing.spelled(*part.of())}" for part in parts]
    if any(part.of()[1] != count for part in parts):
        raise UsageError("expected parts of one division, found several", details=lines)
    if len({part.number for part in parts}) < len(parts):
        raise UsageError("expected every part once, found one twice", details=lines)
    missing = sorted(set(range(1, count + 1)) - {part.number for part in parts})
    if missing:
        named = ", ".join(sharing.spelled(number, count) for number in missing[:8])
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        wanted = parts[0].asked.model_copy(update={"shard": sharing.spelled(missing[0], count)})
        raise UsageError(
            f"expected {count} parts, found {len(parts)}; missing: {named}{more}",
            hint=f"name it, or make it: {command('purify', wanted)}",
            details=lines,
        )


# -- made alike ----------------------------------------------------------------------------------------------


def _check_alike(first: Part, other: Part) -> None:
    called = (f"in part {sharing.spelled(*first.of())}", f"in part {sharing.spelled(*other.of())}")
    found = journal.differences(_made(first), _made(other), called)
    figures, others = (sorted({name for record in part.records for name in record}) for part in (first, other))
    if other.records and figures != others:  # a part that is empty has none
        found += [f"figures of images: {' '.join(figures)} {called[0]}, {' '.join(others)} {called[1]}"]
    if found:
        raise UsageError(
            f"{other.path} does not belong to {first.path}: they were not made alike",
            hint="make one of them again, as the other was made",
            details=found,
        )


def _made(part: Part) -> dict[str, Any]:
    """All that must be equal in the parts of one set, and would be that of one process."""
    made = part.manifest
    return {
        **{name: value for name, value in made.parameters.items() if name != "shard"},
        "settings": {k: v for k, v in made.settings.items() if k not in OWN and k not in made.parameters},
        "origins": made.origins,
        "parents": {parent.name: parent.digest for parent in made.dependencies},
        "counts": {name: value for name, value in made.counts.items() if name != "written"},
        "notes": made.notes,
        "warnings": made.warnings,
        "versions": made.run.versions,
        "device": made.run.device.partition(":")[0],
    }


# -- holding what they say -----------------------------------------------------------------------------------


def _check_rows(part: Part) -> None:
    """As many images of each of its shards as there are in it, at paths below it."""
    found = Counter(record.get("shard") for record in part.records)
    paths = [PurePosixPath(str(record["path"])) for record in part.records]
    bad = [path for path in paths if path.is_absolute() or ".." in path.parts or str(path).startswith(OURS)]
    if bad or found != {number: len(rows) for number, rows in part.dealt.items()}:
        raise IntegrityError(
            f"{part.path} does not hold the images of part {sharing.spelled(*part.of())}",
            hint="make it again with --fresh",
        )
