"""The seconds of one kind of work within a stage, kept over its resumptions."""

import time

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
