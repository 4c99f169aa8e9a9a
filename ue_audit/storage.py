"""Every change on disk, and the lock that keeps two processes from making them at once.

`write`, `append`, `rename`, `sync`, `sync_folders` and `remove` are the only places where ue-audit changes a file
of an output, so that tests can end the process, or make the system refuse, at the k-th of them.
"""

import contextlib
import ctypes
import errno
import gc
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import filelock

from ue_audit.errors import LockedError, ResourceError, UsageError
from ue_audit.systems import WAITS, held, patiently

PATIENCE = 0.2  # seconds to wait for a lock: a process that was just killed may still be ending
FEW = 8  # up to here syncing file by file is cheaper than waiting for all that the file system has to write
BLOCK = 2**20  # bytes
LONGEST = 259  # letters of a path, unless Windows is told to take more; a longer one is "not found" (3) or too long
CANNOT = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}  # a file system does not do this at all


def write(path: Path, data: bytes) -> None:
    patiently(lambda: path.write_bytes(data))


def append(path: Path, data: bytes) -> None:
    with patiently(lambda: path.open("ab")) as file:
        file.write(data)


def rename(source: Path, target: Path) -> None:
    patiently(lambda: source.replace(target))


def sync(paths: Sequence[Path], folder: Path) -> None:
    """Bring files to the disk: a shard's in one go where the system can, few or elsewhere one by one."""
    if len(paths) <= FEW or not _sync_file_system(folder):
        for path in paths:
            _sync_one(path)
    _sync_drive(paths[-1:])


def sync_folders(folders: Iterable[Path]) -> None:
    """Bring new names to the disk. Windows opens no folders, and some network drives sync none: not an error."""
    for folder in folders:
        try:
            _sync_one(folder)
        except OSError as error:
            if error.errno not in CANNOT | {errno.EACCES, errno.EPERM, errno.EBADF}:
                raise


def remove(path: Path, waits: Sequence[float] = WAITS) -> None:
    if path.is_dir() and not path.is_symlink():
        patiently(lambda: shutil.rmtree(path), waits)
    else:
        patiently(lambda: path.unlink(missing_ok=True), waits)


_left: list[tuple[Path, str]] = []  # work folders that could not be discarded yet


def discard(folder: Path, mark: str, waits: Sequence[float] = ()) -> None:
    """Remove a work folder, last the file `mark`, which says whose it is.

    Windows removes no file that is mapped. What this process still has goes when it gives back its `lock`, and if that
    fails with the next run on the same output.
    """
    try:
        for path in list(folder.iterdir()):
            if path.name != mark:
                remove(path, waits)
        remove(folder, waits)
    except OSError as error:
        if not held(error):
            raise
        _left.append((folder, mark))


def _discard_again() -> None:
    left = _left.copy()
    if left:
        gc.collect()
    for folder, mark in left:
        with contextlib.suppress(OSError):
            discard(folder, mark, WAITS)
    _left.clear()


def _sync_file_system(folder: Path) -> bool:
    syncfs = getattr(ctypes.CDLL(None), "syncfs", None) if os.name == "posix" else None
    if syncfs is None:
        return False
    number = os.open(folder, os.O_RDONLY)
    try:
        return bool(syncfs(number) == 0)
    finally:
        os.close(number)


def _sync_drive(paths: Sequence[Path]) -> None:
    """On macOS `fsync` ends in the drive's cache, which this empties: one file's call does it for all."""
    if sys.platform == "darwin":
        import fcntl

        for path in paths:
            with path.open("rb") as file, contextlib.suppress(OSError):  # network drives have none
                fcntl.fcntl(file, fcntl.F_FULLFSYNC)


def _sync_one(path: Path) -> None:
    number = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def reserve(number: int, size: int) -> None:
    """Give an open file its room on the disk now: a full disk is an error here, and a crash at a mapped page later.

    macOS and Windows cannot be asked for room, nor can some file systems: there every byte is written.
    """
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(number, 0, size)
        else:
            _fill(number, size)
    except OSError as error:
        if error.errno not in CANNOT:
            raise
        _fill(number, size)


def _fill(number: int, size: int) -> None:
    """Write a file in full: what it holds again, and zeros behind its end."""
    with open(number, "r+b", closefd=False) as file:
        for start in range(0, size, BLOCK):
            file.seek(start)
            there = file.read(min(BLOCK, size - start))
            file.seek(start)
            file.write(there.ljust(min(BLOCK, size - start), b"\0"))


@contextlib.contextmanager
def resources(path: Path) -> Iterator[None]:
    """What the system refuses becomes a ResourceError that says where."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        lengthy = len(str(where)) > LONGEST and getattr(error, "winerror", None) in (3, 206)
        remedy = "choose a shorter path with -o" if lengthy or error.errno == errno.ENAMETOOLONG else ""
        raise ResourceError(
            f"cannot write {where}: {error.strerror or error}",
            hint=remedy or "nothing finished is lost; then run it again",
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
        own = _acquire(path)
    try:
        yield
    finally:
        _discard_again()
        if not isinstance(own, filelock.SoftFileLock):
            with contextlib.suppress(OSError):
                path.unlink()  # while it is held: whoever opened it meanwhile finds another file at its path
        own.release()


def _acquire(path: Path) -> filelock.BaseFileLock:
    """On Windows the file can neither be read nor removed while it is locked: `release` removes it, and the holder
    stays unknown. Where a system has no locks at all, that it exists is the lock, and what it says is filelock's."""
    while True:
        holder = _holder(path)
        own = filelock.FileLock(path)
        try:
            own.acquire(timeout=PATIENCE, poll_interval=0.02)
        except filelock.Timeout:
            raise LockedError(
                f"{path.name.removesuffix('.lock')} is being worked on by {holder}",
                hint="wait for it to end, or write to another place with -o",
            ) from None
        if isinstance(own, filelock.SoftFileLock):
            return own
        if _is_at(own, path):
            with contextlib.suppress(OSError):
                path.write_bytes(json.dumps({"pid": os.getpid(), "started": now()}).encode())
            return own
        own.release()


def _holder(path: Path) -> str:
    try:
        found = json.loads(path.read_bytes())
        return f"process {int(found['pid'])}, started {found['started']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _is_at(own: filelock.BaseFileLock, path: Path) -> bool:
    """Whether the file locked is still the one at its path, and not one unlinked by the holder before."""
    number = own._context.lock_file_fd
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
        if _within(place, other) or _within(other, place):
            raise UsageError(f"the output {output} and the input {source} overlap", hint="choose another place with -o")


def _within(place: Path, folder: Path) -> bool:
    """Whether a place is a folder or lies in it, also where the file system takes two names for the same."""
    if place.is_relative_to(folder):
        return True
    there = [above for above in (place, *place.parents) if above.exists()]
    return folder.exists() and any(above.samefile(folder) for above in there)
