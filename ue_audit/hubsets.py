"""Data sets in Hugging Face's two forms, as candidates of a split: `imagefolder` directories, and parquet files.

A class is what the metadata beside the images says, else the folder an image lies in.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

from ue_audit import parquetsets, scanning
from ue_audit.candidates import Candidate, Found, class_folders
from ue_audit.errors import UsageError
from ue_audit.names import composed, printable
from ue_audit.parquetsets import WORDS, Columns, arrow, label_column, part_of
from ue_audit.scanning import Refusal, evenly

METADATA = ("metadata.csv", "metadata.jsonl", "metadata.parquet")


def gather(root: Path, columns: Columns, limit: int | None = None) -> Found:
    """The data set at `root`: a folder, or one parquet file; `limit`: so many of each part.

    Raises UsageError (columns that are missing or not clear, metadata that cannot be read) and what parquet files do.
    """
    if root.is_file():
        return parquetsets.gather(root, [root], columns, limit)
    found = [file for file in root.rglob("*.parquet") if file.name not in METADATA and not _hidden(file, root)]
    if not found:
        return _from_folder(root, columns, limit)
    return parquetsets.gather(root, sorted(found, key=_order), columns, limit)


def _order(file: Path) -> tuple[str, ...]:
    """Paths of Windows sort without regard to case, others with."""
    return file.parts


def _hidden(file: Path, root: Path) -> bool:
    return any(name.startswith(".") for name in file.relative_to(root).parts)


def _from_folder(root: Path, columns: Columns, limit: int | None) -> Found:
    base = root / "data" if (root / "data").is_dir() and not _part_folders(root) else root
    candidates: list[Candidate] = []
    refused: list[Refusal] = []
    for place in _part_folders(base) or [base]:
        part = part_of(PurePath(place.name)) if place != base else None
        listing = scanning.scan(place, flat=True)
        labels = _labels(place, root, columns)
        found = [_candidate(entry, place, root, part, labels) for entry in listing.entries]
        refused += [refusal for refusal in found if isinstance(refusal, Refusal)]
        refused += [
            Refusal(f"{printable(_below(place, root))}{r.path}", r.reason, r.detail)
            for r in listing.refused
            if r.reason != "unsupported" or "/" in r.path
        ]
        candidates += evenly([candidate for candidate in found if isinstance(candidate, Candidate)], limit)
    return Found(root, tuple(candidates), tuple(refused))


def _part_folders(root: Path) -> list[Path]:
    """The folders at `root` that are parts; none unless one of them is the training part."""
    found = [place for place in sorted(root.iterdir(), key=_order) if place.is_dir() and place.name.lower() in WORDS]
    return found if any(WORDS[place.name.lower()] is None for place in found) else []


def _below(place: Path, root: Path) -> str:
    return "" if place == root else f"{place.relative_to(root).as_posix()}/"


def _candidate(
    entry: scanning.Entry, place: Path, root: Path, part: str | None, labels: dict[str, str] | None
) -> Candidate | Refusal:
    """An image with its class: by the metadata, else its folder."""
    origin, folder = f"{_below(place, root)}{entry.path}", entry.path.partition("/")[0]
    label = folder if "/" in entry.path else None
    if labels is not None:
        label = labels.get(_found(entry.file))
        if label is None:
            return Refusal(printable(origin), "no-metadata", "no line of the metadata names it")
    path = entry.path if label in (None, folder) else f"{label}/{entry.path}"
    return Candidate(path, label, part, origin, entry.file)


def _found(file: Path) -> str:
    """What a file and the line that names it have in common, whatever the Unicode form of its name."""
    return composed(str(file.resolve()))


def _labels(place: Path, root: Path, columns: Columns) -> dict[str, str] | None:
    """file -> class folder by the metadata beside the images, or above them.

    None if that has no classes, or only numbers for the folders that the images lie in.
    """
    for folder in dict.fromkeys((place, place.parent, root)):
        for name in METADATA:
            if (folder / name).is_file() and folder.is_relative_to(root):
                rows = list(_rows(folder / name))
                column = label_column([*(rows[0] if rows else {})], columns)
                if column is None:
                    return None
                names = [str(row[column]) for row in rows]
                own = [PurePath(str(row["file_name"])).parent.name for row in rows]
                if all(own) and len(set(own)) == len(set(names)) == len(set(zip(own, names, strict=True))):
                    return None
                folders = dict(zip(dict.fromkeys(names), class_folders([*dict.fromkeys(names)]), strict=True))
                return {
                    _found(folder / str(row["file_name"])): folders[label]
                    for row, label in zip(rows, names, strict=True)
                }
    return None


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    """The lines of a metadata file. Raises UsageError for what is none."""
    try:
        rows: list[dict[str, Any]]
        if file.suffix == ".parquet":
            rows = arrow().read_table(file).to_pylist()
        else:
            with file.open(encoding="utf-8-sig", newline="") as lines:
                rows = list(csv.DictReader(lines)) if file.suffix == ".csv" else [json.loads(line) for line in lines]
    except (ValueError, csv.Error) as error:
        raise UsageError(f"{file}: expected metadata in {file.suffix} form, found: {error}") from error
    if not all(isinstance(row, dict) and row.get("file_name") for row in rows):
        raise UsageError(f"{file}: expected a `file_name` in every line")
    yield from rows
