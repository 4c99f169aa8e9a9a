"""Where long work says how far it is. The silent one lives here; the terminal's is in `rendering.terminal`."""


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


SILENT = Progress()
