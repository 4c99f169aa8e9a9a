"""Times that can be compared: everything in one process, after a warm-up, round by round, in turns.

A round runs every contender once; every second round goes backwards, so that a machine that slows down or speeds up
favours nobody. What a contender returns is kept: a time counts only with its result.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ue_audit.progress import SILENT, Progress


@dataclass(frozen=True)
class Contender:
    """`run` is timed. `warm` goes before, untimed: by default a whole run. `images` are those of a run."""

    run: Callable[[], Any]
    images: int | None = None
    warm: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Measured:
    """The seconds of every round, the images of a round, and what the last one returned."""

    seconds: list[float]
    images: int | None = None
    result: Any = None


def interleaved(
    contenders: Mapping[str, Contender], repeats: int, device: torch.device, progress: Progress = SILENT
) -> dict[str, Measured]:
    """The times of all contenders, `repeats` of each."""
    progress.start(", ".join(contenders) if len(contenders) < 3 else f"{len(contenders)} contenders", repeats, "rounds")
    for contender in contenders.values():
        (contender.warm or contender.run)()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    results: dict[str, Any] = {}
    for number in range(repeats):
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            took, results[name] = timed(contenders[name].run, device)
            seconds[name].append(took)
        progress.advance()
    progress.stop()
    return {name: Measured(seconds[name], one.images, results[name]) for name, one in contenders.items()}


def timed(run: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds of one run, the device's queue empty before and after, and what it returned."""
    synchronize(device)
    start = time.perf_counter()
    result = run()
    synchronize(device)
    return time.perf_counter() - start, result


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
