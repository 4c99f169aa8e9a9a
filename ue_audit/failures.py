"""How a run can end other than well: signals, and any exception as a message, an exit code and what to do.

    1 to 6      an AuditError, with the code of its branch (see `errors`)
    70          a bug (always with its traceback), or numbers that are not finite
    130, 143    interrupted or terminated; the same command goes on where it stopped
    141         whoever read stdout went away
"""

import contextlib
import errno
import os
import signal
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import typer

from ue_audit.errors import AuditError, ResourceError
from ue_audit.systems import typed

DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
MACHINE = DISK | {errno.EMFILE, errno.ENOMEM}
MEMORY = ("can't allocate memory", "out of memory", "not enough memory")  # torch: a plain RuntimeError


class Interrupted(BaseException):
    """A signal asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Failure(NamedTuple):
    """What to say and to return. Without a message nothing is said."""

    exit_code: int
    code: str
    message: str
    hint: str = ""
    details: tuple[str, ...] = ()
    traceback: str = ""

    @property
    def bug(self) -> bool:
        return self.code == "bug"

    def document(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "hint": self.hint, "details": list(self.details)}


@contextlib.contextmanager
def signals() -> Iterator[None]:
    """SIGINT and SIGTERM raise Interrupted while this lasts; on Windows SIGBREAK, too, as SIGTERM: a closed window."""
    broken = getattr(signal, "SIGBREAK", None)

    def stop(number: int, _: Any) -> None:
        raise Interrupted(signal.SIGTERM if number == broken else number)

    asked = (signal.SIGINT, signal.SIGTERM, *([] if broken is None else [broken]))
    before = {number: signal.signal(number, stop) for number in asked}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def explain(error: BaseException, words: Sequence[str]) -> Failure:
    """The failure that `error` means for a command line of these words."""
    trace = "".join(traceback.format_exception(error))
    if isinstance(error, Interrupted):
        message = "interrupted; what was finished is kept"
        return Failure(128 + error.number, "interrupted", message, _again(words))
    if _unread(error) or _unread(error.__context__):  # rich exits after one
        return Failure(141, "pipe", "")
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        hint = f"see: {context.command_path if context else 'ue-audit'} --help"
        return Failure(2, "usage", error.format_message(), hint)
    known = _resource(error) or error
    if isinstance(known, AuditError):
        return Failure(known.exit_code, known.code, known.message, known.hint, known.details, trace)
    message = f"{type(error).__name__}: {error}"
    return Failure(70, "bug", message, "this is a bug in ue-audit; the traceback says where", (), trace)


def _unread(error: BaseException | None) -> bool:
    """Whether nobody reads what is printed. Windows calls that an invalid argument, and names no file."""
    nameless = isinstance(error, OSError) and error.filename is None and error.errno == errno.EINVAL
    return isinstance(error, BrokenPipeError) or (os.name == "nt" and nameless)


def _resource(error: BaseException) -> ResourceError | None:
    """Disk, rights and memory, where no closer place has named them."""
    if isinstance(error, OSError) and error.errno in MACHINE:
        place = f": {error.filename}" if error.filename else ""
        hint = "make room or give rights, then run the same command again: it goes on where it stopped"
        return ResourceError(f"{error.strerror}{place}", hint=hint)
    if isinstance(error, MemoryError) or any(part in str(error).lower() for part in MEMORY):
        return ResourceError(
            f"the memory does not suffice: {error or 'allocation failed'}",
            hint="use a smaller batch (--set batch=16) or a smaller --size; finished work is kept",
        )
    return None


def _again(words: Sequence[str]) -> str:
    return "go on with: " + typed(["ue-audit", *(word for word in words if word != "--fresh")])
