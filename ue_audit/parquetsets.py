"""Parquet files of images, as Hugging Face keeps data sets, as candidates of a split. Need pyarrow, the extra `hf`.

Images are taken byte for byte. Parts are known by the words in paths that Hugging Face's loader knows, too
("test-00000-of-00001.parquet"); columns by the types noted in the file, else by their names.
"""

import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path, PurePath
from typing import Any

from ue_audit.candidates import Candidate, Found, class_folders
from ue_audit.config import Config
from ue_audit.decoding import BadImage
from ue_audit.errors import InputRefused, ResourceError, UsageError
from ue_audit.scanning import evenly

WORDS = {
    "train": None, "training": None,
    "validation": "val", "valid": "val", "val": "val", "dev": "val",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
    "raw": "raw", "unsupervised": "raw", "unlabeled": "raw", "unlabelled": "raw",
}  # fmt: skip
IMAGE_NAMES, LABEL_NAMES = ("image", "img"), ("label", "labels", "fine_label")


class Columns(Config):
    """Which columns hold the image and the class; found by their types and names where none is given."""

    image: str | None = None
    label: str | None = None


def gather(root: Path, files: list[Path], columns: Columns, limit: int | None = None) -> Found:
    """The images of these files, below `root` or it itself; `limit`: so many of each part.

    Raises UsageError (columns that are missing or not clear, several data sets), InputRefused (no parquet file),
    ResourceError (pyarrow missing).
    """
    _one_configuration(root, files)
    parts: dict[str | None, list[Candidate]] = {}
    for file in files:
        name = PurePath(file.name) if root.is_file() else PurePath(file.relative_to(root))
        part = part_of(name)
        found = parts.setdefault(part, [])
        for row, (label, data) in enumerate(_images(file, columns)):
            number = f"{len(found):06d}"
            path = number if label is None else f"{label}/{number}"
            found.append(Candidate(path, label, part, f"{name.as_posix()}[{row}]", data))
    candidates = [candidate for found in parts.values() for candidate in evenly(found, limit)]
    return Found(root, tuple(candidates), archives=tuple(files))


def part_of(path: PurePath) -> str | None:
    """The part that a path's words name: None for training images, and where none is named. The last word counts."""
    words = [word for word in re.split("[^a-z]+", path.as_posix().lower()) if word in WORDS]
    return WORDS[words[-1]] if words else None


def label_column(names: list[str], columns: Columns) -> str | None:
    if columns.label is not None and columns.label not in names:
        raise UsageError(f"no column {columns.label!r}; there are {', '.join(names)}", hint="--set label=COLUMN")
    return columns.label or next((name for name in LABEL_NAMES if name in names), None)


def arrow() -> Any:
    """pyarrow.parquet. Raises ResourceError with what to install."""
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise ResourceError(
            "parquet files need pyarrow, which is not installed",
            hint="pip install 'ue-audit[hf]', or: pip install pyarrow",
        ) from error
    return parquet


def _one_configuration(root: Path, files: Iterable[Path]) -> None:
    """Refuse a folder with several sets: parquet files that lie in different folders which are no parts."""
    folders = {file.parent.parent if file.parent.name.lower() in WORDS else file.parent for file in files}
    if len(folders) > 1:
        raise UsageError(
            f"{root} holds several data sets", hint="name one of the folders", details=sorted(map(str, folders))
        )


def _images(file: Path, columns: Columns) -> Iterator[tuple[str | None, Any]]:
    """(class folder, what gives the bytes) of every row. Only labels are read now."""
    parquet = arrow()
    try:
        opened = parquet.ParquetFile(file)
        features = _features(opened.schema_arrow)
        image, label = _choose(file, opened.schema_arrow, features, columns)
        values = None if label is None else opened.read(columns=[label]).column(0).to_pylist()
        counts = [opened.metadata.row_group(number).num_rows for number in range(opened.num_row_groups)]
    except (ValueError, OSError) as error:  # pyarrow's own errors are ValueErrors
        raise InputRefused(f"{file}: expected a parquet file, found: {str(error).splitlines()[0]}") from error
    names = None if label is None or values is None else _class_names(file, label, values, features)
    places = ((group, row) for group, count in enumerate(counts) for row in range(count))
    for number, (group, row) in enumerate(places):
        yield None if names is None else names[number], partial(_bytes, file, group, row, image)


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """Column -> type as the `datasets` library notes it in a file; empty without such a note."""
    try:
        found = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        return {name: feature for name, feature in found.items() if isinstance(feature, dict)}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def _choose(file: Path, schema: Any, features: dict[str, dict[str, Any]], columns: Columns) -> tuple[str, str | None]:
    """The columns of image and class. Raises UsageError where there is none, or several could be meant."""
    names = list(schema.names)
    label = _only(file, "label", [n for n in names if features.get(n, {}).get("_type") == "ClassLabel"], columns.label)
    images = [n for n in names if features.get(n, {}).get("_type") == "Image"] or [
        n for n in names if n in IMAGE_NAMES
    ]
    image = columns.image or _only(file, "image", images, None)
    if image is None or image not in names:
        raise UsageError(f"{file}: expected a column of images, found {', '.join(names)}", hint="--set image=COLUMN")
    return image, label if label is not None else label_column(names, columns)


def _only(file: Path, what: str, names: list[str], given: str | None) -> str | None:
    if given is None and len(names) > 1:
        found = ", ".join(names)
        raise UsageError(f"{file}: several columns could be the {what}: {found}", hint=f"--set {what}={names[0]}")
    return names[0] if names and given is None else None


def _class_names(file: Path, label: str, values: list[Any], features: dict[str, dict[str, Any]]) -> list[str]:
    """The class folder of each row; numbers become names where the file has them. Raises UsageError."""
    named = features.get(label, {}).get("names")
    if any(value is None or isinstance(value, dict | list | bytes) for value in values):
        raise UsageError(f"{file}: the column {label!r} holds no class of every image", hint="--set label=COLUMN")
    if named:
        if not all(isinstance(value, int) and 0 <= value < len(named) for value in values):
            raise UsageError(f"{file}: the column {label!r} holds numbers beyond its {len(named)} classes")
        folders = class_folders([str(name) for name in named])
        return [folders[value] for value in values]
    found = [*dict.fromkeys(map(str, values))]
    folders_of = dict(zip(found, class_folders(found), strict=True))
    return [folders_of[str(value)] for value in values]


def _bytes(file: Path, group: int, row: int, column: str) -> bytes:
    value = _group(file, group, column)[row].as_py()
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes):
        raise BadImage("missing", f"expected the bytes of an image, found {type(data).__name__}")
    return data


@lru_cache(maxsize=2)
def _group(file: Path, group: int, column: str) -> Any:
    """One column of one row group, kept while its rows are asked for in turn."""
    return arrow().ParquetFile(file).read_row_group(group, columns=[column]).column(0)
