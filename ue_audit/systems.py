"""What Linux, macOS and Windows do differently where it is no matter of files: streams, shells, paths between drives.

File names are judged in `names`, changes on disk and the lock are in `storage`. What is written into manifests, records
and reports is the same on all systems: paths have "/" between their parts, lines end with "\\n", text is UTF-8.
"""

import codecs
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath
from typing import TypeVar

T = TypeVar("T")


def near(path: Path, base: Path) -> Path:
    """`path` as seen from `base`, both resolved; itself where no way leads there (another drive of Windows)."""
    try:
        return Path(os.path.relpath(path, base))
    except ValueError:
        return path


def spelled(word: object) -> str:
    """A word of a command line: paths with "/", which every shell and system takes and none has to quote."""
    return word.as_posix() if isinstance(word, PurePath) else str(word)


def typed(words: Iterable[str]) -> str:
    """A command line for the shell in use: cmd.exe knows no single quotes. What is recorded has POSIX quotes."""
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


# -- files that another process holds ------------------------------------------------------------------------------

HELD = (5, 32, 33, 1224)  # errors of Windows: access denied, shared, locked, mapped
WAITS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # seconds between attempts


def held(error: OSError) -> bool:
    """Whether Windows refused because somebody has the file open; elsewhere that refuses nothing."""
    return getattr(error, "winerror", None) in HELD


def patiently(act: Callable[[], T], waits: Sequence[float] = WAITS) -> T:
    """`act()`, tried again for a while where the file is held: virus scanners open what was just written."""
    for wait in waits:
        try:
            return act()
        except OSError as error:
            if not held(error):
                raise
        time.sleep(wait)
    return act()


# -- characters that a stream cannot say ---------------------------------------------------------------------------

PLAIN = {
    "→": "->", "−": "-", "–": "-", "…": "...", "·": ".", "─": "-", "━": "=", "✓": "+", "✗": "x",
    "×": "x", "±": "+-", "≤": "<=", "≥": ">=", "¹": "1", "²": "2", "³": "3", "∩": "and", "\u00a0": " ",
}  # fmt: skip
ERRORS = "ue_audit.plain"


def _plainer(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in letters), error.end


def plain_streams() -> None:
    """Let stdout and stderr say in plain letters what their encoding lacks, instead of failing.

    Redirected output has the encoding of the system's language on Windows: cp1252 knows no arrow.
    """
    codecs.register_error(ERRORS, _plainer)
    for stream in (sys.stdout, sys.stderr):
        encoding = getattr(stream, "encoding", None) or "utf-8"
        if hasattr(stream, "reconfigure") and not encoding.lower().replace("-", "").startswith("utf"):
            stream.reconfigure(errors=ERRORS)
