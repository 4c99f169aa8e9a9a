"""Which output came from which: manifests on disk, their parents, and the newest of a stage."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from ue_audit.digests import file_sha256, tree_digest
from ue_audit.errors import IntegrityError, ResourceError, UsageError
from ue_audit.names import composed
from ue_audit.scanning import Listing, parts
from ue_audit.spelling import pasted
from ue_audit.statement import JOURNAL, MANIFEST, RECORDS, SUMS, Dependency, Manifest, parse, sidecar
from ue_audit.systems import near

LINE = ("protected", "purified", "source", "evaluation", "raw")  # what an output was made from, main parent first
UNFINISHED = "run the command that makes it again, it resumes"


def find(path: Path) -> Manifest | None:
    """The manifest of an output, or None for what is not ours. Raises IntegrityError for unfinished or damaged."""
    place = path / MANIFEST if path.is_dir() else sidecar(path)
    if place.is_file():
        return parse(_bytes(place), str(place))
    if path.is_dir() and (path / JOURNAL).exists():
        raise IntegrityError(f"{path} is unfinished work of ue-audit", hint=UNFINISHED)
    if path.is_dir() and ((path / SUMS).exists() or (path / RECORDS).exists()):
        raise IntegrityError(f"{place} is missing, though {path} was made by ue-audit")
    return None


def read(path: Path) -> Manifest:
    """The manifest of an output folder or file. Raises UsageError when there is none, IntegrityError when damaged."""
    manifest = find(path)
    if manifest is None:
        found = "no manifest there" if path.exists() else "nothing there"
        raise UsageError(f"expected an output of ue-audit at {path}, found {found}")
    return manifest


def records(path: Path) -> list[dict[str, Any]]:
    """The records of an output folder, sorted by path. Raises IntegrityError when they are not those sealed."""
    if file_sha256(path / RECORDS) != read(path).records_sha256:
        raise IntegrityError(f"{path / RECORDS} was changed after it was written")
    with (path / RECORDS).open("rb") as lines:
        return [json.loads(line) for line in lines]


def image_of(folder: Path, record: Mapping[str, Any]) -> bytes:
    """The bytes of an image of an output. Raises IntegrityError if they are not those that were sealed."""
    data = _bytes(folder / str(record["path"]))
    if hashlib.sha256(data).hexdigest() != record["sha256"]:
        raise IntegrityError(
            f"{folder / str(record['path'])} is not the image that was sealed", hint=f"see: ue-audit verify {folder}"
        )
    return data


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ResourceError(f"cannot read {path}: {error.strerror}") from error


def source_digest(sources: Listing | Iterable[Any]) -> str:
    """The tree digest of a plain folder: of a listing (files are hashed), or of source records."""
    if isinstance(sources, Listing):
        return tree_digest((entry.path, file_sha256(entry.file)) for entry in sources.entries)
    return tree_digest((source.path, source.sha256) for source in sources)


# -- parents -------------------------------------------------------------------------------------------------


def dependency(
    name: str, path: Path, *, output: Path, digest: Mapping[str, str] | str | None = None, **used: Any
) -> Dependency:
    """A parent of `output`. `digest`: of a folder's images or of a file; without it, what its manifest says.

    `used` (flat, limit, skipped) says which images of a plain folder were taken.
    """
    if isinstance(digest, str):
        digest = {"sha256" if path.is_file() else "tree": digest}
    place = near(path.resolve(), _base(output))
    return Dependency(name=name, uri=quote(place.as_posix()), digest=dict(digest or _digest(path)), **used)


def _digest(path: Path) -> dict[str, str]:
    manifest = read(path)
    return {"sha256": manifest.sha256} if manifest.sha256 else {"tree": manifest.tree}


def check_taken(path: Path, sources: Iterable[Any]) -> None:
    """Whether the images just taken in from an output of ours are those it was sealed with; plain folders pass.

    Raises IntegrityError naming every image that is not, UsageError for a part of a set.
    """
    found = find(path)
    if found is None:
        return
    refuse_part(path, found)
    sealed = {composed(record["path"]): record.get("sha256") for record in records(path)}
    changed = [source.path for source in sources if sealed.get(composed(source.path)) != source.sha256]
    if changed:
        raise IntegrityError(
            f"{len(changed)} images in {path} are not those it was made with",
            hint=f"see: ue-audit verify {path}",
            details=changed,
        )


def refuse_part(path: Path, found: Manifest) -> None:
    """Raises UsageError for a part that `purify --shard` made, with the line that puts the parts together."""
    if found.status == "partial":
        part = found.settings.get("shard")
        raise UsageError(f"expected a whole set, found part {part} of one: {path}", hint=f"merge it: {_merging(path)}")


def _merging(part: Path) -> str:
    return pasted("ue-audit", "merge", part)


def locate(output: Path, dependency: Dependency) -> Path:
    """Where a parent should be, seen from where the output lies now; shown relative when that is shorter."""
    path = Path(os.path.normpath(_base(output) / unquote(dependency.uri)))
    seen = near(path, Path.cwd())
    return seen if len(str(seen)) < len(str(path)) else path


def _base(output: Path) -> Path:
    """Folders count from themselves, files from the folder they lie in."""
    place = output.resolve()
    return place.parent if place.is_file() or place.suffix == ".ckpt" else place


def ancestors(path: Path) -> list[tuple[str, Path, Manifest | None]]:
    """(role, place, manifest) of each parent on the main line, nearest first; it ends at a plain folder or a gap."""
    line: list[tuple[str, Path, Manifest | None]] = []
    manifest = find(path)
    while manifest is not None and len(line) < 100:
        parent = manifest.dependency(*LINE)
        if parent is None:
            break
        path = locate(path, parent)
        manifest = find(path) if path.exists() else None
        line.append((parent.name, path, manifest))
    return line


def _generations(path: Path) -> Iterator[tuple[Path, Manifest]]:
    """The output itself and its ancestors, those that have a manifest."""
    for place, manifest in [(path, find(path)), *((place, found) for _, place, found in ancestors(path))]:
        if manifest is not None:
            yield place, manifest


def clean_of(path: Path) -> Path | None:
    """The owner's clean folder an output goes back to: one named as `clean`, else the source of its protection."""
    for place, manifest in _generations(path):
        names = ("clean", "source") if manifest.stage == "protect" else ("clean",)
        clean = manifest.dependency(*names)
        if clean is not None:
            return locate(place, clean)
    return None


def test_of(path: Path) -> Path | None:
    """The test images that belong to a folder: named in its lineage, else beside its owner's training images."""
    return _part_of(path, "test")


def val_of(path: Path) -> Path | None:
    """As `test_of`, for the validation images."""
    return _part_of(path, "val")


def _part_of(path: Path, name: str) -> Path | None:
    for place, manifest in _generations(path):
        named = manifest.dependency(name)
        if named is not None:
            return locate(place, named)
    owner = clean_of(path) or path
    if not owner.is_dir():
        return None
    folder = owner.resolve().parent if owner.resolve().name == "train" else owner
    found: Path | None = getattr(parts(folder), name)
    return found


# -- the newest ------------------------------------------------------------------------------------------------


def newest(stage: str, folder: Path = Path()) -> Path:
    """The complete output of `stage` in `folder` that finished last; of purify, an attack if there is one.

    Raises UsageError when there is none, or when they go back to different data.
    """
    made = [(path, manifest) for path, manifest in _outputs(folder) if manifest.stage == stage]
    found = [(path, manifest) for path, manifest in made if manifest.status == "complete"]
    attacks = [(path, manifest) for path, manifest in found if manifest.dependency("protected") is not None]
    found = attacks or found
    if not found:
        part = next((path for path, manifest in made if manifest.status == "partial"), None)
        hint = f"merge its parts: {_merging(part)}" if part else "name the folder"
        raise UsageError(f"no complete output of {stage} in {folder.resolve().name}", hint=hint)
    roots = {_root(path, manifest) for path, manifest in found}
    if len(roots) > 1:
        raise UsageError(
            f"{len(found)} outputs of {stage} go back to {len(roots)} different sets",
            hint="name the folder",
            details=[f"{path} (finished {manifest.run.finished})" for path, manifest in found],
        )
    return max(found, key=lambda pair: (pair[1].run.finished, pair[0].name))[0]


def _outputs(folder: Path) -> Iterator[tuple[Path, Manifest]]:
    for place in sorted(folder.iterdir()):
        path = place.with_name(place.name.removesuffix(f".{MANIFEST}"))
        is_folder = (place / MANIFEST).is_file()
        if is_folder or (place.name.endswith(f".{MANIFEST}") and path.is_file()):
            yield path, read(path)


def _root(path: Path, manifest: Manifest) -> str:
    """The digest of the data an output goes back to, as its oldest reachable manifest has it."""
    for _, _, found in ancestors(path):
        manifest = found or manifest
    parent = manifest.dependency("clean", *LINE)
    return next(iter(parent.digest.values()), "") if parent else manifest.key
