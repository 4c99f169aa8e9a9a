"""Where long work says how far it is. The silent one lives here; the terminal's are in `rendering.terminal` and
`rendering.board`."""

from collections.abc import Sequence
from typing import NamedTuple


class Stage(NamedTuple):
    """One stage of an audit: its verb, the name of its output, and the command that does the same."""

    verb: str
    output: str
    command: str


class Place(NamedTuple):
    """Where a training stands in the matrix of an evaluation: column, row, and which of those that share both."""

    protected: str  # the protected set, or "clean"
    countermeasure: str  # "none" and "noise" where there is none
    learner: str
    folder: str
    seed: int


class Progress:
    """A sink for progress that shows nothing. Subclasses draw."""

    def start(self, what: str, total: int, unit: str = "images") -> None:
        """Begin a bar of `total` units; ends the one before."""

    def advance(self, n: int = 1, **figures: float) -> None:
        """`n` more units are done; `figures` are the numbers that matter now (loss, accuracy, psnr)."""

    def say(self, text: str) -> None:
        """One plain line for the user, such as '37/64 shards done, resuming'."""

    def stop(self) -> None:
        """End the current bar."""

    def stages(self, stages: Sequence[Stage]) -> None:
        """The stages of an audit in order; all are waiting."""

    def stage(self, number: int, state: str) -> None:
        """The stage of this number is now "running", "done" or "up to date"."""

    def matrix(self, places: Sequence[Place]) -> None:
        """The trainings that an evaluation will have."""

    def trained(self, place: Place, accuracy: float) -> None:
        """A training has ended; its accuracy in [0,1]."""

    def close(self) -> None:
        """Nothing more will be shown."""
        self.stop()


SILENT = Progress()
