"""Kill a run at the k-th change on disk, and make the system refuse the k-th one.

    changes(run)            how many changes on disk a run makes
    killed(run, k)          a forked child runs and sends itself SIGKILL at its k-th change; True if it did
    killed_runs(run, ks)    the same for many k, each from a clean place
    refused(run, k, errno)  the k-th change fails with an OSError, in this process

`run` is called without arguments. A change is a call of storage's `write`, `append`, `rename`, `sync`,
`sync_folders` or `remove`; every second k tears a write in half before the kill, the others kill in front of it.
Forked children inherit what is imported, so that torch is loaded once.
"""

import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ue_audit import storage

CHANGES = ("write", "append", "rename", "sync", "sync_folders", "remove")

Run = Callable[[], Any]
Hook = Callable[[int, str, tuple[Any, ...]], None]


@contextmanager
def hooked(hook: Hook) -> Iterator[list[str]]:
    """Call `hook(number, name, arguments)` before every change on disk; yields the names in order."""
    originals, names = {name: getattr(storage, name) for name in CHANGES}, []

    def wrap(name: str) -> Callable[..., Any]:
        def change(*arguments: Any) -> Any:
            names.append(name)
            hook(len(names), name, arguments)
            return originals[name](*arguments)

        return change

    for name in CHANGES:
        setattr(storage, name, wrap(name))
    try:
        yield names
    finally:
        for name, original in originals.items():
            setattr(storage, name, original)


def changes(run: Run) -> list[str]:
    """The names of the changes on disk that a whole run makes."""
    with hooked(lambda number, name, arguments: None) as names:
        run()
    return list(names)


def killed(run: Run, k: int) -> bool:
    """Run in a forked child that kills itself at its k-th change; False if it ended before that."""
    child = os.fork()
    if child == 0:
        try:
            with hooked(lambda number, name, arguments: _die(name, arguments) if number == k else None):
                run()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, f"the child of point {k} failed by itself"
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def _die(name: str, arguments: tuple[Any, ...]) -> None:
    if name in ("write", "append") and len(arguments[1]) % 2:  # by content, so that both kinds come up
        with arguments[0].open("ab" if name == "append" else "wb") as file:
            file.write(arguments[1][: len(arguments[1]) // 2])
    os.kill(os.getpid(), signal.SIGKILL)


def killed_runs(run: Run, points: Iterable[int], outputs: Iterable[Path]) -> Iterator[tuple[int, bool]]:
    """For each k: remove the outputs, run, kill at the k-th change; yields (k, whether it was killed)."""
    places = [place for output in outputs for place in beside(output)]
    for k in points:
        for place in places:
            shutil.rmtree(place, ignore_errors=True)
            place.unlink(missing_ok=True)
        yield k, killed(run, k)


def beside(output: Path) -> list[Path]:
    """An output and what lies beside it: lock, work folder, manifest of an output that is one file."""
    return [output, *(output.with_name(output.name + end) for end in (".lock", ".work", ".ue-audit.json", ".tmp"))]


@contextmanager
def refused(k: int, number: int) -> Iterator[None]:
    """The k-th change on disk, and all after it, fail with this errno."""

    def refuse(count: int, name: str, arguments: tuple[Any, ...]) -> None:
        if count >= k:
            raise OSError(number, os.strerror(number), str(arguments[0]))

    with hooked(refuse):
        yield
