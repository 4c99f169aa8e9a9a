"""`verify` as it runs in a process of its own: without torch."""

from pathlib import Path

from ue_audit import contents, scanning, verify

LOADED = (contents,)  # which `verify` loads when it meets a folder


def check(folder: str) -> None:
    """List an output and verify it."""
    scanning.scan(Path(folder))
    verify.verify(Path(folder))
