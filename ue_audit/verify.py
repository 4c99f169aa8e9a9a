"""Is an output what its manifest says? Hashes, missing and extra files, pixels; with `chain` parents and budgets."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ue_audit.digests import file_sha256, tree_digest
from ue_audit.errors import AuditError, UsageError
from ue_audit.lineage import find, locate, read
from ue_audit.names import printable
from ue_audit.scanning import scan
from ue_audit.statement import MANIFEST, Dependency, Manifest


class Problem(NamedTuple):
    """Where something does not hold, and what."""

    path: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}: {self.what}"


@dataclass
class Verification:
    """How many files were hashed, and everything that does not hold."""

    checked: int = 0
    problems: list[Problem] = field(default_factory=list)

    def add(self, path: str, what: str) -> None:
        self.problems.append(Problem(printable(path), what))


def verify(path: Path, chain: bool = False) -> Verification:
    """Check an output folder or file; `chain` also checks its parents, theirs, and budgets against source pixels.

    Raises UsageError for what is no output of ue-audit.
    """
    found = Verification()
    _verify(path, chain, found, "", set())
    return found


def _verify(path: Path, chain: bool, found: Verification, label: str, seen: set[Path]) -> None:
    if path.resolve() in seen:
        return
    seen.add(path.resolve())
    manifest, sources = _manifest(path, found, label), {}
    if path.is_dir():
        from ue_audit.contents import Folder  # loads numpy and Pillow, which a locked folder need not wait for

        folder = Folder(path, manifest, found, label, chain)
        folder.check()
        sources = folder.used_sources()
    elif manifest is not None:
        found.checked += 1
        if not path.is_file():
            found.add(label.rstrip("/") or path.name, "is missing")
        elif file_sha256(path) != manifest.sha256:
            found.add(label.rstrip("/") or path.name, "is not the file its manifest was written for")
    if chain and manifest is not None:
        for dependency in manifest.dependencies:
            _parent(path, dependency, sources, found, label, seen)


def _manifest(path: Path, found: Verification, label: str) -> Manifest | None:
    try:
        return read(path)
    except UsageError:
        raise
    except AuditError as error:
        found.add(f"{label}{MANIFEST}", error.message)
        return None


def _parent(
    path: Path, used: Dependency, sources: dict[str, str], found: Verification, label: str, seen: set[Path]
) -> None:
    place, name = locate(path, used), f"{label}[{used.name}]"
    if not place.exists():
        return found.add(name, f"is not at {place}")
    try:
        manifest = find(place)
        if manifest is not None:
            _verify(place, True, found, f"{name}/", seen)
        if used.digest not in _digests(place, manifest, used, sources):
            found.add(name, f"is not what this output was made from: {place} has changed")
    except AuditError as error:
        found.add(name, error.message)
    return None


def _digests(
    place: Path, manifest: Manifest | None, used: Dependency, sources: dict[str, str]
) -> Iterator[dict[str, str]]:
    """What the parent may be named by: a file's hash, its own tree, the images it has, or those that were used."""
    if place.is_file():
        yield {"sha256": file_sha256(place)}
        return
    if manifest is not None:
        yield {"tree": manifest.tree}
    else:
        listing = scan(place, flat=used.flat, limit=used.limit)
        kept = (entry for entry in listing.entries if entry.path not in used.skipped)
        yield {"tree": tree_digest((entry.path, file_sha256(entry.file)) for entry in kept)}
    if sources and used.name in ("source", "protected"):
        yield {"tree": tree_digest((path, file_sha256(place / path)) for path in sources)}
