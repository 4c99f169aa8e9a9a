"""Is a folder what its sums, records and manifest say: files, hashes, pixels, and budgets against the source."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ue_audit.decoding import BadImage, Pixels, decode, pixels_sha256, resized
from ue_audit.digests import sums, tree_digest
from ue_audit.lineage import locate
from ue_audit.names import LITTER, composed
from ue_audit.scanning import is_link
from ue_audit.statement import JOURNAL, MANIFEST, RECORDS, SUMS, Budget, Manifest
from ue_audit.verify import Verification

RECORDED = 1e-6  # how closely a recorded distance is repeated


class Record(NamedTuple):
    """What verification needs of a record; kept small, since there may be many."""

    sha256: str
    pixels_sha256: str | None
    shape: tuple[Any, Any]
    source: str | None
    source_sha256: str | None
    distances: tuple[float | None, float | None]


class Folder:
    """The checks of one output folder."""

    def __init__(self, root: Path, manifest: Manifest | None, found: Verification, label: str, chain: bool) -> None:
        self.root, self.manifest, self.found, self.label = root, manifest, found, label
        self.records = self._records()
        self.sources = self._sources() if chain else None

    def problem(self, path: str, what: str) -> None:
        self.found.add(f"{self.label}{path}", what)

    def check(self) -> None:
        before = len(self.found.problems)
        lines = self._lines()
        known = lines.keys() | self.records.keys() | {RECORDS, MANIFEST}
        actual = {path: self._hash(path, file) for path, file in self._files(known)}
        self.found.checked += len(actual)
        for path in sorted(known - actual.keys()):
            self.problem(path, "is missing")
        for path, digest in actual.items():
            if digest and path not in self.records and lines.get(path, digest) != digest:
                self.problem(path, "was changed")
        self._summed(actual, before)

    def used_sources(self) -> dict[str, str]:
        """source path -> sha256 of every image this folder was made from, as its records have it."""
        found = self.records.values()
        return {r.source: r.source_sha256 for r in found if r.source is not None and r.source_sha256 is not None}

    def _summed(self, actual: dict[str, str], before: int) -> None:
        """The sums file byte for byte, and the digests in the manifest; the cause is named once."""
        place = self.root / SUMS
        if not place.is_file():
            self.problem(SUMS, "is missing")
        elif len(self.found.problems) == before and self._bytes(place) != sums(actual.items()):
            self.problem(SUMS, "was changed")
        if self.manifest is None or len(self.found.problems) != before:
            return
        files = {path: digest for path, digest in actual.items() if not path.startswith("ue-audit.")}
        tree = tree_digest(files.items() or [(RECORDS, actual.get(RECORDS, ""))])
        if tree != self.manifest.tree or actual.get(RECORDS) != self.manifest.records_sha256:
            self.problem(MANIFEST, "names other files than these")

    def _lines(self) -> dict[str, str]:
        """path -> sha256 as the sums file has it; nothing if it cannot be read."""
        try:
            lines = _regular(self.root / SUMS).read_text("utf-8").split("\n")
        except (OSError, UnicodeDecodeError):
            return {}
        return {line[66:]: line[:64] for line in lines if re.fullmatch("[0-9a-f]{64}  [^/].*", line)}

    def _records(self) -> dict[str, Record]:
        records: dict[str, Record] = {}
        try:
            with _regular(self.root / RECORDS).open("rb") as lines:
                for line in lines:
                    value = json.loads(line)
                    if value.get("sha256") is not None:
                        records[_text(value["path"])] = _small(value)
        except FileNotFoundError:
            pass  # it is missing, and will be called so
        except OSError as error:
            self.problem(RECORDS, f"cannot be read: {error.strerror}")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            self.problem(RECORDS, f"is damaged: {error}")
        return records

    def _files(self, expected: set[str]) -> Iterator[tuple[str, Path]]:
        """Regular files that are expected, by the paths recorded; everything else is a problem.

        A file system or a copy may have given names another Unicode form, and a file manager may have been there.
        """
        folders = {path[: at + 1] for path in expected for at, letter in enumerate(path) if letter == "/"}
        recorded = {composed(path): path for path in (*expected, *folders)}
        waiting = [("", self.root)]
        while waiting:
            below, place = waiting.pop()
            for item in self._items(below, place):
                name = f"{below}{item.name}"
                path, inside = (recorded.pop(composed(f"{name}{end}"), None) for end in ("", "/"))
                if is_link(item):
                    self.problem(path or name, "is a link; none was written")
                elif item.is_dir():
                    if inside is not None:
                        waiting.append((inside, Path(item.path)))
                    else:
                        self.problem(path or name, "is an extra folder")
                elif not item.is_file() or (path is None and name != SUMS and item.name.lower() not in LITTER):
                    hint = "; run the command again to end its work" if name == JOURNAL else ""
                    self.problem(path or name, f"is an extra file{hint}")
                elif path is not None and path != SUMS:
                    yield path, Path(item.path)

    def _items(self, below: str, place: Path) -> list["os.DirEntry[str]"]:
        try:
            return sorted(os.scandir(place), key=lambda item: item.name)
        except OSError as error:
            self.problem(below, f"cannot be listed: {error.strerror}")
            return []

    def _bytes(self, file: Path) -> bytes | None:
        try:
            return file.read_bytes()
        except OSError as error:
            self.problem(file.relative_to(self.root).as_posix(), f"cannot be read: {error.strerror}")
            return None

    def _hash(self, path: str, file: Path) -> str:
        data = self._bytes(file)
        if data is None:
            return ""
        digest, record = hashlib.sha256(data).hexdigest(), self.records.get(path)
        if record is not None and record.pixels_sha256 is not None and digest == record.sha256:
            self._check_pixels(path, record, data)
        elif record is not None and digest != record.sha256:
            self.problem(path, "is not the file its record was written for")
        return digest

    def _check_pixels(self, path: str, record: Record, data: bytes) -> None:
        try:
            pixels = decode(data).pixels
        except BadImage as bad:
            return self.problem(path, bad.message)
        if pixels_sha256(pixels) != record.pixels_sha256 or record.shape != (pixels.shape[1], pixels.shape[0]):
            self.problem(path, "its pixels or size are not those of its record")
        if self.sources is not None and record.source is not None:
            self._check_budget(path, record, pixels)
        return None

    # -- budgets, against the pixels of the source ---------------------------------------------------------------

    def _sources(self) -> Path | None:
        if self.manifest is None or self.manifest.budget is None:
            return None
        source = self.manifest.dependency("source")
        return None if source is None else locate(self.root, source)

    def _check_budget(self, path: str, record: Record, pixels: Pixels) -> None:
        assert self.sources is not None and self.manifest is not None and self.manifest.budget is not None
        place = self.sources / str(record.source)
        if not place.resolve().is_relative_to(self.sources.resolve()):
            return self.problem(path, "its source lies outside the folder of sources")
        try:
            source = decode(place)
        except BadImage as bad:
            return self.problem(path, f"its source {record.source} is {bad.reason}")
        if source.sha256 != record.source_sha256:
            return self.problem(path, f"its source {record.source} has changed")
        clean, asked = source.pixels, self.manifest.settings
        if clean.shape != pixels.shape and asked.get("resize_output", asked.get("size")):  # import has only a size
            clean = resized(clean, pixels.shape[1], pixels.shape[0])
        if clean.shape != pixels.shape:
            return self.problem(path, f"has not the size of its source {record.source}")
        for what in _over(pixels, clean, self.manifest.budget, record):
            self.problem(path, what)
        return None


def _regular(file: Path) -> Path:
    """The file itself; a pipe in its place would be waited for without end."""
    if file.exists() and not file.is_file():
        raise FileNotFoundError(file)
    return file


def _small(value: dict[str, Any]) -> Record:
    size, distances = (value.get("width"), value.get("height")), (value.get("linf"), value.get("l2"))
    if not all(number is None or isinstance(number, int | float) for number in (*size, *distances)):
        raise TypeError("a size or distance is no number")
    names = (value.get(name) for name in ("pixels_sha256", "source", "source_sha256"))
    pixels, source, source_sha256 = (None if name is None else _text(name) for name in names)
    return Record(_text(value["sha256"]), pixels, size, source, source_sha256, distances)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected text, found {type(value).__name__}")
    return value


def _over(y: Pixels, x: Pixels, budget: Budget, record: Record) -> Iterator[str]:
    """What is wrong with a change: over the budget, or not as recorded (linf in levels, l2 in [0,1] units)."""
    if not budget.holds(x, y):
        found, limit = budget.measure(x, y), budget.at(*x.shape[:2])
        scale = 255 if budget.norm == "linf" else 1
        yield f"was changed by an {budget.norm} of {found * scale:g}; the budget is {limit * scale:g}"
    for norm, scale, recorded in zip(("linf", "l2"), (255, 1), record.distances, strict=True):
        measured = Budget(norm=norm, limit=0).measure(x, y) * scale  # type: ignore[arg-type]
        if recorded is not None and abs(recorded - measured) > RECORDED * max(1.0, measured):
            yield f"its record says {norm} {recorded:g}, measured {measured:g}"
