"""A Linux process that Windows would recognise: `python as_on_windows.py ARGUMENTS...` is `ue-audit ARGUMENTS...`.

    no modules          fcntl, resource, termios, pwd, grp and their like cannot be imported
    another `os`        for ue_audit's modules: named "nt", without the functions that Windows lacks; opens no folder
    files in use        what this process has open or mapped cannot be removed, replaced, moved or begun anew
    names               those that Windows refuses cannot be opened for writing, made or moved to
    unnamed files       have a name

What it leaves out: drives, path lengths, other processes' files, cmd.exe, the real system's locks and codes of errors.
"""

import builtins
import errno
import importlib
import io
import os
import pkgutil
import shutil
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

POSIX_MODULES = (
    "crypt", "fcntl", "grp", "nis", "ossaudiodev", "posix", "pty", "pwd", "readline", "resource", "spwd", "syslog",
    "termios", "tty",
)  # fmt: skip
POSIX_NAMES = {
    "chown", "chroot", "ctermid", "confstr", "fchdir", "fchmod", "fchown", "fdatasync", "fork", "forkpty", "fpathconf",
    "fstatvfs", "getegid", "geteuid", "getgid", "getgroups", "getloadavg", "getpgid", "getpgrp", "getpriority",
    "getresuid", "getsid", "getuid", "killpg", "lchmod", "lchown", "lockf", "mkfifo", "mknod", "nice", "openpty",
    "pathconf", "pipe2", "posix_fadvise", "posix_fallocate", "posix_spawn", "pread", "preadv", "pwrite", "readv",
    "register_at_fork", "sched_getaffinity", "sched_yield", "sendfile", "setpriority", "setsid", "setuid", "setxattr",
    "statvfs", "sync", "sysconf", "tcgetpgrp", "uname", "wait", "wait3", "wait4", "writev", "O_CLOEXEC", "O_DIRECTORY",
    "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC", "RTLD_NOW", "WIFSIGNALED", "WEXITSTATUS", "WTERMSIG",
}  # fmt: skip
ACCESS, SHARING, MAPPED = 5, 32, 1224


def refusal(path: Any, code: int) -> PermissionError:
    error = PermissionError(errno.EACCES, "as on Windows", str(path))
    error.winerror = code
    return error


class WindowsOs(types.ModuleType):
    """`os` as ue_audit's modules see it."""

    name = "nt"

    def __getattr__(self, name: str) -> Any:
        if name in POSIX_NAMES:
            raise AttributeError(f"module 'os' has no attribute {name!r}")
        return getattr(os, name)

    @staticmethod
    def open(path: Any, flags: int, *more: int) -> int:
        if Path(path).is_dir():
            raise refusal(path, ACCESS)
        return os.open(path, flags, *more)


def in_use(path: Any) -> bool:
    """Whether this process has the file open or mapped."""
    place = Path(path).resolve()
    numbers = [number for number in Path("/proc/self/fd").iterdir() if number.is_symlink()]
    return place.is_file() and (place in [number.readlink() for number in numbers] or mapped(place))


def mapped(path: Any) -> bool:
    place = str(Path(path).resolve())
    return any(line.endswith(place) for line in Path("/proc/self/maps").read_text("utf-8").splitlines())


def unwritable(path: Any) -> bool:
    """Windows' rules, written down apart from those in ue_audit.names."""
    name = Path(path).name if isinstance(path, str | os.PathLike) else ""
    device = name.split(".")[0].rstrip().upper()
    devices = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}
    return bool(set(name) & set('<>:"|?*\\') or name != name.rstrip(". ") or device in devices)


def _refusing(real: Any, *, makes: bool) -> Any:
    def change(*paths: Any, **how: Any) -> Any:
        for path in paths:
            if isinstance(path, str | os.PathLike) and in_use(path):
                raise refusal(path, SHARING)
        if makes and unwritable(paths[-1]):
            raise OSError(errno.EINVAL, "no name of Windows", str(paths[-1]))
        return real(*paths, **how)

    return change


def _opening(real: Any) -> Any:
    def open_(file: Any, mode: str = "r", *more: Any, **how: Any) -> Any:
        new = isinstance(file, str | os.PathLike) and set(mode) & set("wxa")
        if new and unwritable(file):
            raise OSError(errno.EINVAL, "no name of Windows", str(file))
        if new and "w" in mode and mapped(file):
            raise refusal(file, MAPPED)
        return real(file, mode, *more, **how)

    return open_


def begin() -> None:
    """Make this process so. Imports all of ue_audit."""
    for name in POSIX_MODULES:
        if name != "posix":  # os itself stands on it
            sys.modules[name] = None  # type: ignore[assignment]
    import ue_audit

    for found in pkgutil.walk_packages(ue_audit.__path__, "ue_audit."):
        if not found.name.endswith(("__main__", ".make")):
            module = importlib.import_module(found.name)
            if getattr(module, "os", None) is os:
                module.os = WindowsOs("os")
    for name in ("remove", "unlink", "rmdir"):
        setattr(os, name, _refusing(getattr(os, name), makes=False))
    for name in ("rename", "replace"):
        setattr(os, name, _refusing(getattr(os, name), makes=True))
    real_mkdir = os.mkdir
    os.mkdir = lambda path, *more, **how: _refusing(lambda p: real_mkdir(p, *more, **how), makes=True)(path)
    io.open = builtins.open = _opening(builtins.open)
    shutil._use_fd_functions = False  # type: ignore[attr-defined]
    tempfile.TemporaryFile = tempfile.NamedTemporaryFile  # type: ignore[misc, assignment]


if __name__ == "__main__":
    begin()
    from ue_audit.cli import main

    sys.exit(main())
