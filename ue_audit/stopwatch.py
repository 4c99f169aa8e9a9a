"""Seconds of a part of a stage, kept over its resumptions: of one kind of work, or of one training."""

import time
from pathlib import Path

from ue_audit.systems import patiently
from ue_audit.tools import Tools


class Stopwatch:
    """`with watch:` adds the time spent inside to `watch.seconds` and keeps the sum in the work folder of `tools`."""

    def __init__(self, tools: Tools, name: str) -> None:
        self._tools, self._name, self._started = tools, name, 0.0
        self.seconds = float((tools.restore(name) or {"seconds": 0.0})["seconds"])

    def __enter__(self) -> "Stopwatch":
        self._started = time.monotonic()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds += time.monotonic() - self._started
        self._tools.save(self._name, lambda: {"seconds": self.seconds})


class Timer:
    """The seconds of the work whose states are saved in `folder`, from its making on, those before a kill included.

    `keep` writes them down, and is called when a state is saved: they are as old as what a resumption begins with.
    """

    def __init__(self, folder: Path) -> None:
        self._place = folder / "seconds"
        self.before = float(self._place.read_bytes()) if self._place.exists() else 0.0
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self._started

    def keep(self) -> None:
        draft = self._place.with_suffix(".tmp")
        draft.write_bytes(repr(self.seconds).encode())
        patiently(lambda: draft.replace(self._place))
