"""Every change on disk, and the lock that keeps two processes from making them at once.

`write`, `append`, `rename`, `sync`, `sync_folders` and `remove` are the only places where ue-audit changes a file
of an output, so that tests can end the process, or make the system refuse, at the k-th of them.
"""

import contextlib
import ctypes
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import filelock

from ue_audit.errors import LockedError, ResourceError, UsageError

PATIENCE = 0.2  # seconds to wait for a lock: a process that was just killed may still be ending
FEW = 8  # up to here syncing file by file is cheaper than waiting for all that the file system has to write


def write(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def rename(source: Path, target: Path) -> None:
    source.replace(target)


def sync(paths: Sequence[Path], folder: Path) -> None:
    """Bring files to the disk: a shard's in one go where the system can, few or elsewhere one by one."""
    if len(paths) <= FEW or not _sync_file_system(folder):
        for path in paths:
            _sync_one(path)


def sync_folders(folders: Iterable[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(PermissionError):  # Windows opens no folders
            _sync_one(folder)


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync_file_system(folder: Path) -> bool:
    syncfs = getattr(ctypes.CDLL(None), "syncfs", None) if os.name == "posix" else None
    if syncfs is None:
        return False
    number = os.open(folder, os.O_RDONLY)
    try:
        return bool(syncfs(number) == 0)
    finally:
        os.close(number)


def _sync_one(path: Path) -> None:
    number = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def reserve(number: int, size: int) -> None:
    """Give an open file its room on the disk now: a full disk is an error here, and a crash at a mapped page later."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(number, 0, size)
    else:
        os.ftruncate(number, size)


@contextlib.contextmanager
def resources(path: Path) -> Iterator[None]:
    """What the system refuses becomes a ResourceError that says where."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise ResourceError(
            f"cannot write {where}: {error.strerror or error}", hint="nothing finished is lost; then run it again"
        ) from error


def write_file(path: Path, data: bytes) -> None:
    """Replace one file so that it is whole, old or new, at any moment. Raises ResourceError."""
    with resources(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, data)


def replace(path: Path, data: bytes) -> None:
    draft = path.with_name(f"{path.name}.tmp")
    write(draft, data)
    sync([draft], path.parent)
    rename(draft, path)
    sync_folders([path.parent])


def now() -> str:
    """The time in UTC, as manifests write it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def beside(output: Path, ending: str) -> Path:
    """`<output><ending>`. Raises UsageError for an output that has nothing beside it."""
    place = output if output.name not in ("", "..") else output.resolve()
    if not place.name:
        raise UsageError("the root of the file system cannot be an output", hint="choose another place with -o")
    return place.with_name(f"{place.name}{ending}")


# -- one process at a time -----------------------------------------------------------------------------------


@contextlib.contextmanager
def lock(output: Path) -> Iterator[None]:
    """Hold `<output>.lock`. Raises LockedError naming the holder; the system frees it when the holder dies."""
    path = beside(output, ".lock")
    with resources(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        held = _acquire(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # while it is held: whoever opened it meanwhile finds another file at its path
        held.release()


def _acquire(path: Path) -> filelock.BaseFileLock:
    while True:
        holder = _holder(path)
        held = filelock.FileLock(path)
        try:
            held.acquire(timeout=PATIENCE, poll_interval=0.02)
        except filelock.Timeout:
            raise LockedError(
                f"{path.name.removesuffix('.lock')} is being worked on by {holder}",
                hint="wait for it to end, or write to another place with -o",
            ) from None
        if _is_at(held, path):
            with contextlib.suppress(OSError):
                path.write_text(json.dumps({"pid": os.getpid(), "started": now()}))
            return held
        held.release()


def _holder(path: Path) -> str:
    try:
        found = json.loads(path.read_text())
        return f"process {int(found['pid'])}, started {found['started']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _is_at(held: filelock.BaseFileLock, path: Path) -> bool:
    """Whether the file locked is still the one at its path, and not one unlinked by the holder before."""
    number = held._context.lock_file_fd
    if os.name != "posix" or number is None:
        return True
    try:
        return os.path.samestat(os.fstat(number), path.stat())
    except OSError:
        return False


def refuse_overlap(output: Path, inputs: Iterable[Path]) -> None:
    """Raises UsageError when the output lies in an input, or holds one."""
    place = output.resolve()
    for source in inputs:
        other = source.resolve()
        if place == other or place.is_relative_to(other) or other.is_relative_to(place):
            raise UsageError(f"the output {output} and the input {source} overlap", hint="choose another place with -o")
