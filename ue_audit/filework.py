"""An output that is one file (a prior) under construction: the same states as `shards.Work`, without shards.

What must outlive a kill lies in `<file>.work/`; `seal` writes the file, then its manifest beside it, then removes
the work. A file without a manifest is unfinished as long as its work is there, and foreign otherwise.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ue_audit import shards, storage
from ue_audit.errors import IntegrityError, UsageError
from ue_audit.statement import Manifest, canonical, file_sha256, parse, sidecar

HEAD = "parameters.json"


class FileWork(shards.Work):
    """Hold the output's `lock` from before `open` to after `seal_file`."""

    @classmethod
    def open(cls, output: Path, parameters: Mapping[str, Any], *, fresh: bool = False) -> "FileWork":
        """Begin an output, go on with an unfinished one, or find it sealed (`complete`).

        Raises UsageError for other parameters or a file that is not ours, IntegrityError for a damaged one.
        """
        work = cls(output, parameters)
        head = work.scratch / HEAD
        with storage.resources(output):
            if fresh:
                work._discard()
            if sidecar(output).exists():
                work._find_sealed()
            elif head.exists():
                found = json.loads(head.read_bytes())
                work._same(found["key"], found["parameters"])
                work.started, work.resumed = found["started"], 1
                work._seconds = work._ticked()
            else:
                work._refuse_foreign()
                work._clear_scratch()
                work._make_scratch()
                values = {"key": work.key, "parameters": work.parameters, "started": work.started}
                storage.replace(head, canonical(values))
        return work

    def finish(self, data: bytes, manifest: Manifest) -> Path:
        """Write the file and its manifest, and end the work."""
        run = self._run_details(manifest.run)
        sealed = manifest.model_copy(update={"key": self.key, "parameters": self.parameters, "run": run})
        path = shards.seal_file(self.output, data, sealed)
        with storage.resources(self.output):
            self._sweep()
        self.complete = True
        return path

    def _find_sealed(self) -> None:
        manifest = parse(sidecar(self.output).read_bytes(), str(sidecar(self.output)))
        self._same(manifest.key, manifest.parameters)
        if not self.output.is_file() or file_sha256(self.output) != manifest.sha256:
            raise IntegrityError(f"{self.output} is not the file its manifest names", hint="start over with --fresh")
        self._sweep()
        self.complete = True

    def _refuse_foreign(self) -> None:
        if self.output.exists():
            raise UsageError(f"{self.output} is there already and was not made by ue-audit", hint="choose -o")

    def _discard(self) -> None:
        if sidecar(self.output).exists() or (self.scratch / HEAD).exists():
            for path in (sidecar(self.output), self.output):
                storage.remove(path)
        if (self.scratch / shards.MARK).exists():
            storage.remove(self.scratch)

    def _sweep(self) -> None:
        if (self.scratch / shards.MARK).exists():
            storage.discard(self.scratch, shards.MARK)
