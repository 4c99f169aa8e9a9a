"""Outputs that survive being killed: fixed shards, a journal, sealing, resume.

    commit   drafts -> sync -> rename into place -> sync folders -> one line in the journal
    seal     records -> manifest under a draft name -> sums -> rename of the manifest -> journal and work removed

What the journal names is done; on resume its files are hashed again, and a shard with a file that differs is done
anew. Whatever else lies about is overwritten with the same bytes. The steps on disk are in storage.py.
"""

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ue_audit import journal, storage
from ue_audit.digests import OURS, canonical, file_sha256, portable, portable_line, record_lines, sums, tree_digest
from ue_audit.errors import IntegrityError, UsageError
from ue_audit.names import LITTER
from ue_audit.statement import JOURNAL, MANIFEST, RECORDS, SUMS, Manifest, RunDetails, parse, render, sidecar, versions
from ue_audit.storage import lock, refuse_overlap, write_file

__all__ = ["SHARD_PIXELS", "Work", "lock", "plan", "refuse_overlap", "seal_file", "write_file"]

SHARD_PIXELS = 2**19
DRAFTS = "ue-audit.drafts"
MARK = "ue-audit.scratch"
CLOCK = "seconds"  # in the scratch: what the work has taken when a state was last saved

Record = dict[str, Any]
Statement = Manifest | Callable[[list[Record]], Manifest]


def plan(n: int, pixels_per_image: int) -> list[range]:
    """Fixed runs of rows of about 2^19 pixels each: the unit of work, sync and resume."""
    rows = max(1, SHARD_PIXELS // pixels_per_image)
    return [range(start, min(start + rows, n)) for start in range(0, n, rows)]


def scratch(output: Path) -> Path:
    """Where an output's unfinished work lies."""
    return storage.beside(output, ".work")


class Work:
    """An output folder under construction. Hold its `lock` from before `open` to after `seal`."""

    def __init__(self, output: Path, parameters: Mapping[str, Any]) -> None:
        self.output = output
        self.scratch = scratch(output)
        self.parameters: dict[str, Any] = json.loads(canonical(portable(dict(parameters), output.parent)))
        self.key = hashlib.sha256(canonical(self.parameters)).hexdigest()
        self.complete = False
        self.grown = False
        self.done: dict[str, list[Record]] = {}
        self.resumed = 0
        self.started = storage.now()
        self._wanted: set[str] | None = None
        self._files: dict[str, str] = {}
        self._seconds = 0.0
        self._clock = time.monotonic()

    @classmethod
    def open(cls, output: Path, parameters: Mapping[str, Any], *, fresh: bool = False) -> "Work":
        """Begin an output, go on with an unfinished one, or find it sealed (`complete`).

        `parameters` (JSON values) decide whether it is the same work. Raises UsageError for other parameters, naming
        the keys that differ, and for a folder that is not ours; `fresh` discards what is ours.
        """
        work = cls(output, parameters)
        work._open(fresh)
        return work

    @classmethod
    def extend(
        cls, output: Path, parameters: Mapping[str, Any], wanted: Collection[str], *, fresh: bool = False
    ) -> "Work":
        """As `open`, but an output of other parameters goes on if every shard that it has is among the `wanted`.

        It has `grown` then; a sealed one, which has records and no files, is to be reopened.
        """
        work = cls(output, parameters)
        work._wanted = set(wanted)
        work._open(fresh)
        return work

    def commit(self, shard: str, files: Mapping[str, bytes], records: list[Record]) -> None:
        """Make a shard's files and records permanent. Raises ResourceError when the system refuses."""
        self._check(shard, files)
        line = {
            "shard": shard,
            "files": {path: hashlib.sha256(data).hexdigest() for path, data in files.items()},
            "records": records,
            "seconds": round(self.elapsed(), 3),
        }
        text = journal.line(line)
        with storage.resources(self.output):
            self._place(files)
            storage.append(self.output / JOURNAL, text)
            storage.sync([self.output / JOURNAL], self.output)
        self._add(line)

    def seal(self, statement: Statement) -> Path:
        """Write records, manifest and sums, and end the work. Returns the output folder."""
        records = sorted((r for part in self.done.values() for r in part), key=lambda r: str(r["path"]).encode())
        lines = record_lines(records)
        manifest = statement if isinstance(statement, Manifest) else statement(records)
        own = {RECORDS: hashlib.sha256(lines).hexdigest()}
        data = render(self._complete_manifest(manifest, own[RECORDS]))
        parse(data, MANIFEST)  # what cannot be read back must not be written
        own[MANIFEST] = hashlib.sha256(data).hexdigest()
        with storage.resources(self.output):
            storage.remove(self.output / DRAFTS)
            storage.replace(self.output / RECORDS, lines)
            draft = self.output / f"{MANIFEST}.tmp"
            storage.write(draft, data)
            storage.replace(self.output / SUMS, sums({**self._files, **own}.items()))
            storage.sync([draft], self.output)
            storage.rename(draft, self.output / MANIFEST)
            storage.sync_folders([self.output])
            self._sweep()
        self.complete = True
        return self.output

    def reopen(self, meanwhile: Callable[[], None]) -> None:
        """Go on with a sealed output that has records and no files: they come back as the journal's shards.

        `meanwhile` is called when the work folder is there and the manifest still is: a kill leaves one or the other.
        """
        sealed = parse((self.output / MANIFEST).read_bytes(), str(self.output / MANIFEST))
        head = {"key": self.key, "parameters": self.parameters, "started": sealed.run.started}
        kept = {"files": {}, "seconds": sealed.run.seconds}
        lines: list[Record] = [head, *({"shard": r["key"], "records": [r], **kept} for r in self._sealed_records())]
        with storage.resources(self.output):
            self._make_scratch()
            meanwhile()
            storage.replace(self.output / JOURNAL, b"".join(journal.line(line) for line in lines))
            storage.remove(self.output / MANIFEST)
            storage.sync_folders([self.output])
            self._resume()
        self.complete, self._clock = False, time.monotonic()

    # -- the three states an output can be in ------------------------------------------------------------------

    def _open(self, fresh: bool) -> None:
        with storage.resources(self.output):
            if fresh:
                self._discard()
            if (self.output / MANIFEST).exists():
                self._find_sealed()
            elif (self.output / JOURNAL).exists():
                self._resume()
            else:
                self._begin()

    def _begin(self) -> None:
        self._refuse_foreign()
        self._clear_scratch()
        self.output.mkdir(parents=True, exist_ok=True)
        self._make_scratch()
        head = {"key": self.key, "parameters": self.parameters, "started": self.started}
        storage.replace(self.output / JOURNAL, journal.line(head))
        storage.sync_folders([self.scratch.parent])

    def _resume(self) -> None:
        place = self.output / JOURNAL
        found = [journal.parsed(line) for line in place.read_bytes().split(b"\n")]
        head, *lines = [line for line in found if line is not None] or [{}]
        if "key" not in head:
            raise IntegrityError(f"{place}: the journal cannot be read", hint="start over with --fresh")
        self._same(head["key"], head["parameters"], lambda: (line["shard"] for line in lines if "shard" in line))
        kept = [line for line in lines if "resumed" in line or self._holds(line)]
        for line in kept:
            self._add(line)
        self.started, self.resumed = head["started"], sum("resumed" in line for line in kept) + 1
        self._seconds = max([self._ticked(), *(line.get("seconds", 0.0) for line in kept)])
        self._make_scratch()
        head |= {"key": self.key, "parameters": self.parameters}
        again = {"resumed": storage.now()}
        storage.replace(place, b"".join(journal.line(line) for line in (head, *kept, again)))

    def _find_sealed(self) -> None:
        manifest = parse((self.output / MANIFEST).read_bytes(), str(self.output / MANIFEST))
        self._same(manifest.key, manifest.parameters, lambda: (record["key"] for record in self._sealed_records()))
        self._sweep()
        self.complete = True

    def _same(self, key: str, parameters: Mapping[str, Any], shards: Callable[[], Iterable[str]] = tuple) -> None:
        """Refuses an output that was made with other parameters, unless all `shards` that it has are wanted."""
        if key == self.key:
            return
        if self._wanted is None or not set(shards()) <= self._wanted:
            raise UsageError(
                f"{self.output} was made with other settings",
                hint="choose another place with -o, or start over with --fresh",
                details=journal.differences(parameters, self.parameters),
            )
        self.grown = True

    def _sealed_records(self) -> list[Record]:
        return [json.loads(line) for line in (self.output / RECORDS).read_bytes().splitlines()]

    def _discard(self) -> None:
        """Take what is ours out of the way in one rename, then remove it."""
        if (self.output / MANIFEST).exists() or (self.output / JOURNAL).exists():
            self._make_scratch()
            storage.remove(self.scratch / "discarded")
            storage.rename(self.output, self.scratch / "discarded")

    def _refuse_foreign(self) -> None:
        if self.output.exists() and not self.output.is_dir():
            raise UsageError(f"expected a folder to write to at {self.output}, found a file", hint="choose -o")
        if self.output.is_dir() and not all(_no_matter(path.name) for path in self.output.iterdir()):
            raise UsageError(f"{self.output} is not empty and was not made by ue-audit", hint="choose -o")

    # -- pieces --------------------------------------------------------------------------------------------------

    def _place(self, files: Mapping[str, bytes]) -> None:
        """Files under draft names, synced as a group, then renamed into place."""
        drafts = self.output / DRAFTS
        drafts.mkdir(exist_ok=True)
        moves = [(drafts / str(number), self.output / path) for number, path in enumerate(files)]
        for (draft, _), data in zip(moves, files.values(), strict=True):
            storage.write(draft, data)
        storage.sync([draft for draft, _ in moves], drafts)
        holding = {PurePosixPath(path.rpartition("/")[0]) for path in files}
        for folder in holding:
            (self.output / folder).mkdir(parents=True, exist_ok=True)
        for draft, target in moves:
            storage.rename(draft, target)
        folders = holding.union(*(folder.parents for folder in holding))
        storage.sync_folders(self.output / folder for folder in sorted(folders))

    def _check(self, shard: str, files: Mapping[str, bytes]) -> None:
        if shard in self.done:
            raise ValueError(f"shard {shard} is already committed")
        for path in files:
            pure = PurePosixPath(path)
            if path in self._files or pure.is_absolute() or ".." in pure.parts or path.startswith(OURS):
                raise ValueError(f"{path!r} cannot be written into an output, or is there already")

    def _holds(self, line: Record) -> bool:
        """Whether the files a journal line names are still there, byte for byte."""
        paths = [(self.output / path, digest) for path, digest in line["files"].items()]
        return all(path.is_file() and file_sha256(path) == digest for path, digest in paths)

    def _add(self, line: Record) -> None:
        if "shard" in line:
            self.done[line["shard"]] = line["records"]
            self._files.update(line["files"])

    def elapsed(self) -> float:
        """Seconds that the work has taken, those before a resume included."""
        return self._seconds + time.monotonic() - self._clock

    def tick(self) -> None:
        """Keep `elapsed` for a resume: long searches save their state where no shard is committed for minutes."""
        with storage.resources(self.output):
            storage.replace(self.scratch / CLOCK, repr(self.elapsed()).encode())

    def _ticked(self) -> float:
        place = self.scratch / CLOCK
        return float(place.read_bytes()) if place.exists() else 0.0

    def _run_details(self, run: RunDetails) -> RunDetails:
        """`run` with what only the work knows: times, resumptions, versions. Earlier work that it names is added."""
        return run.model_copy(
            update={
                "started": run.started or self.started,
                "finished": storage.now(),
                "seconds": round(run.seconds + self.elapsed(), 3),
                "resumed": self.resumed,
                "versions": run.versions or versions(),
            }
        )

    def _complete_manifest(self, manifest: Manifest, records_sha256: str) -> Manifest:
        run = self._run_details(manifest.run)
        return manifest.model_copy(
            update={
                "settings": portable(manifest.settings, self.output.parent),
                "next": portable_line(manifest.next, self.output.parent),
                "tree": tree_digest(self._files.items() or [(RECORDS, records_sha256)]),
                "records_sha256": records_sha256,
                "key": self.key,
                "parameters": self.parameters,
                "run": run,
            }
        )

    def _make_scratch(self) -> None:
        if self.scratch.is_dir() and not (self.scratch / MARK).exists() and any(self.scratch.iterdir()):
            raise UsageError(f"{self.scratch} is in the way and was not made by ue-audit", hint="move it away")
        self.scratch.mkdir(parents=True, exist_ok=True)
        if not (self.scratch / MARK).exists():
            storage.write(self.scratch / MARK, b"Work of ue-audit, removed when its output is complete.\n")

    def _clear_scratch(self) -> None:
        self._make_scratch()
        storage.remove(self.scratch)

    def _sweep(self) -> None:
        storage.remove(self.output / JOURNAL)
        storage.remove(self.output / DRAFTS)
        if (self.scratch / MARK).exists():
            storage.discard(self.scratch, MARK)


def _no_matter(name: str) -> bool:
    """A draft of ours, or what a file manager leaves where somebody has looked."""
    return (name.startswith(OURS) and name.endswith(".tmp")) or name.lower() in LITTER


def seal_file(path: Path, data: bytes, manifest: Manifest) -> Path:
    """Write an output that is one file, and its manifest beside it (`<name>.ue-audit.json`)."""
    digest = hashlib.sha256(data).hexdigest()
    settings = portable(manifest.settings, path.parent)
    following = portable_line(manifest.next, path.parent)
    sealed = {"subject": path.name, "sha256": digest, "settings": settings, "next": following}
    write_file(path, data)
    write_file(sidecar(path), render(manifest.model_copy(update=sealed)))
    return path
