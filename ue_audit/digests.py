"""Bytes and hashes that two runs must agree on: canonical JSON, sums, tree digests, portable values."""

import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

from ue_audit.errors import NonFiniteError, ResourceError
from ue_audit.systems import near

OURS = "ue-audit."


def to_json(value: Any, **style: Any) -> str:
    """JSON text. Raises NonFiniteError for NaN and infinity, which JSON does not have."""
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False, default=_plain, **style)
    except ValueError as error:
        raise NonFiniteError(f"a value that would be recorded is NaN or infinite: {error}") from error


def _plain(value: Any) -> Any:
    """numpy and torch scalars as numbers, paths as text."""
    if isinstance(value, PurePath):
        return value.as_posix()
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be recorded: {value!r}")


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes."""
    return to_json(value, sort_keys=True, separators=(",", ":")).encode()


def record_lines(records: Iterable[Mapping[str, Any]]) -> bytes:
    """The bytes of the records file: one line of canonical JSON per record, sorted by path."""
    return b"".join(canonical(dict(r)) + b"\n" for r in sorted(records, key=lambda r: str(r["path"]).encode()))


def sums(pairs: Iterable[tuple[str, str]]) -> bytes:
    """The bytes of the sums file, for `sha256sum -c`: images sorted by path, then our own root files."""
    lines = sorted((path.startswith(OURS), path.encode(), digest) for path, digest in pairs)
    return b"".join(digest.encode() + b"  " + path + b"\n" for _, path, digest in lines)


def tree_digest(pairs: Iterable[tuple[str, str]]) -> str:
    """in-toto's dirHash1: sha256 of the "sha256  path" lines sorted by path, as coreutils would compute it."""
    lines = sorted((path.encode(), digest) for path, digest in pairs)
    return hashlib.sha256(b"".join(digest.encode() + b"  " + path + b"\n" for path, digest in lines)).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes. Raises ResourceError when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ResourceError(f"cannot read {path}: {error.strerror}") from error


def portable(value: Any, base: Path) -> Any:
    """Plain JSON values, absolute paths rewritten relative to the folder `base`: no user or host name is kept.

    On Windows a path on another drive than `base` stays as it is: there is no relative one.
    """
    if isinstance(value, Mapping):
        return {str(key): portable(item, base) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable(item, base) for item in value]
    if isinstance(value, Path) or (isinstance(value, str) and Path(value).is_absolute()):
        path = Path(value)
        return (near(path.resolve(), base.resolve()) if path.is_absolute() else path).as_posix()
    return value


def portable_line(line: str, base: Path) -> str:
    """A command with its absolute paths rewritten in the same way."""
    return shlex.join(portable(shlex.split(line), base))
