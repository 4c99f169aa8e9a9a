"""Every error a user can cause, and the exit code it ends with.

    AuditError
    ├── UsageError        2   a wrong option, key, value, name or combination
    ├── InputRefused      3   images that cannot be taken in as they are
    ├── IntegrityError    4   a hash, lineage, budget or checkpoint that does not hold
    ├── ResourceError     5   disk, memory, device or weights missing
    ├── LockedError       6   another process works on the same output
    └── NonFiniteError   70   NaN or infinity where a number was due

Anything else that escapes is a bug and keeps its traceback (exit 70).
"""

from collections.abc import Iterable


class AuditError(Exception):
    """An error with a remedy. `message`: what was expected, what was found and where; `hint`: what to do."""

    exit_code = 70
    code = "error"

    def __init__(self, message: str, *, hint: str = "", details: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = tuple(details)


class UsageError(AuditError):
    exit_code, code = 2, "usage"


class InputRefused(AuditError):
    exit_code, code = 3, "input"


class IntegrityError(AuditError):
    exit_code, code = 4, "integrity"


class ResourceError(AuditError):
    exit_code, code = 5, "resource"


class LockedError(AuditError):
    exit_code, code = 6, "locked"


class NonFiniteError(AuditError):
    exit_code, code = 70, "non-finite"
