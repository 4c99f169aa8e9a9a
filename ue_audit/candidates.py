"""What a split places: images of a folder, or those that torchsets.py, hubsets.py and parquetsets.py find.

Nothing is decoded here. A part that the owner, or the data set, has already set apart stays what it is.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ue_audit import manifest, scanning
from ue_audit.errors import IntegrityError, UsageError
from ue_audit.manifest import Dependency
from ue_audit.names import fold, folder_name
from ue_audit.scanning import Refusal


class Candidate(NamedTuple):
    """`path` below its part, "/" between; its class, None without; the part it is set apart for, None if free to place.

    `origin`: where it was, in words for its record. `data`: its file; or what gives the bytes of one, and then the path
    has no ending yet.
    """

    path: str
    label: str | None
    part: str | None
    origin: str
    data: Path | Callable[[], bytes]


@dataclass(frozen=True)
class Found:
    """Every candidate of a source, what its listing refused, and the files it was read from (none: a plain folder)."""

    root: Path
    candidates: tuple[Candidate, ...]
    refused: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()
    archives: tuple[Path, ...] = ()

    @property
    def kept(self) -> tuple[str, ...]:
        """The parts that were set apart before, in order of their names."""
        return tuple(sorted({candidate.part for candidate in self.candidates if candidate.part is not None}))

    def parents(self, output: Path, digest: str) -> list[Dependency]:
        """What the split was made from: the images of a folder by `digest`, or the archives by their bytes."""
        if self.archives:
            return [
                manifest.dependency("source", file, output=output, digest=manifest.file_sha256(file))
                for file in self.archives
            ]
        skipped = tuple(refusal.path for refusal in self.refused)
        return [
            manifest.dependency("source", self.root, output=output, digest=digest, flat=True, skipped=skipped)
        ]


def from_folder(root: Path, limit: int | None = None) -> Found:
    """Class folders or a flat folder; or one that holds train/ and perhaps val/, test/ and raw/, which are kept.

    `limit`: so many of each part. Raises what `scan` raises, IntegrityError for an output of ours.
    """
    if manifest.find(root) is not None:
        raise IntegrityError(f"{root} was made by ue-audit, and is not split again", hint="name the owner's folder")
    parts = scanning.parts(root)
    if parts.train == root:
        return _listed(root, [(None, root)], limit)
    raw = root / "raw"
    named = [("test", parts.test), ("val", parts.val), ("raw", raw if raw.is_dir() else None)]
    return _listed(root, [(None, parts.train), *((name, place) for name, place in named if place is not None)], limit)


def _listed(root: Path, places: list[tuple[str | None, Path]], limit: int | None) -> Found:
    candidates, refused, empty = [], [], []
    for part, place in places:
        listing = scanning.scan(place, flat=True if part == "raw" else None, limit=limit)
        below = "" if place == root else f"{place.name}/"
        candidates += [Candidate(e.path, e.label, part, f"{below}{e.path}", e.file) for e in listing.entries]
        refused += [refusal._replace(path=f"{below}{refusal.path}") for refusal in listing.refused]
        empty += [f"{below}{name}" for name in listing.empty]
    warnings = (f"class folders without an image are left out: {', '.join(empty)}",) if empty else ()
    return Found(root, tuple(candidates), tuple(refused), warnings)


def class_folders(names: list[str]) -> list[str]:
    """A folder name for each class name: what no folder of any system may hold becomes "_".

    Raises UsageError for names that would share a folder.
    """
    folders = [folder_name(name) for name in names]
    folders = [f"_{folder}" if fold(folder).startswith(scanning.OURS) else folder for folder in folders]
    seen: dict[str, str] = {}
    for name, folder in zip(names, folders, strict=True):
        other = seen.setdefault(fold(folder), name)
        if other != name:
            raise UsageError(f"the classes {other!r} and {name!r} would share the folder {folder!r}")
    return folders
