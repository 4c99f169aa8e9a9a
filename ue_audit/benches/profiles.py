"""The costs of a stage: what torch's operators and what Python's functions spend, the top five of each."""

import cProfile
import pstats
import shutil
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from ue_audit import chain
from ue_audit.benches.checking import check
from ue_audit.benches.rows import Part, Row
from ue_audit.benches.scene import Scene
from ue_audit.spelling import MODELS

TOP = 5
MOST_STEPS = 10  # of a prior: torch's profiler keeps every call, 8 GB of 100 steps
PROTECT = {"method": "emn", "layers": {"bench": {"min_rounds": 1, "max_rounds": 2}}}


def run(scene: Scene, stage: str) -> Part:
    """Two runs after a warm-up, on one thread: one under torch's profiler, one under Python's."""
    prepared, threads = prepare(scene, stage), torch.get_num_threads()
    torch.set_num_threads(1)  # so that `evaluate` stays in this thread, which is the one that is profiled
    try:
        prepared()
        operators, functions = _operators(prepared, scene.device), _functions(prepared)
    finally:
        torch.set_num_threads(threads)
    note = f"{stage} on {scene.amounts.images} images, one thread. Profiling itself costs time: shares count."
    return Part([*operators, *functions], notes=[note])


def prepare(scene: Scene, stage: str) -> Any:
    """A function that runs the stage once, anew each time, on few images."""
    protected, limit = scene.protected(scene.amounts.images), scene.amounts.images
    if stage == "verify":
        return lambda: check(str(protected))
    train, out = scene.images / "train", scene.place / "output"
    steps = min(MOST_STEPS, scene.amounts.stage_steps)
    given: dict[str, dict[str, Any]] = {
        "protect": {"source": train, "limit": limit, **PROTECT},
        "train-prior": {"raw": scene.images / "raw", "layers": {"bench": {"steps": steps, "check_every": steps}}},
        "purify": {"source": protected, "prior": scene.prior},
        "evaluate": {
            "folders": (train, protected), "clean": train, "test": scene.images / "test", "seeds": 1, "limit": limit,
            "noise_control": False, "layers": {"bench": {"epochs": 2}},
        },
    }  # fmt: skip
    asked: Any = MODELS[stage].model_validate({**given[stage], "output": out, **scene.running})

    def once() -> None:
        _remove(out)
        chain.perform(chain.Step(stage, asked))
        _remove(out)

    return once


def _remove(out: Path) -> None:
    for place in out.parent.glob(f"{out.name}*"):
        shutil.rmtree(place) if place.is_dir() else place.unlink()


def _operators(run: Any, device: torch.device) -> list[Row]:
    cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as found:
        run()
    costs = [
        (e.key, (e.self_device_time_total if cuda else e.self_cpu_time_total) / 1e6, e.count)
        for e in found.key_averages()
    ]
    return _top("operator", costs)


def _functions(run: Any) -> list[Row]:
    profiler = cProfile.Profile()
    profiler.runcall(run)
    stats: Any = pstats.Stats(profiler)
    costs = [(_named(*place), own, calls) for place, (_, calls, own, _, _) in stats.stats.items()]
    return _top("function", costs)


def _named(file: str, line: int, name: str) -> str:
    return name if file == "~" else f"{Path(file).name}:{line} {name}"


def _top(kind: str, costs: list[tuple[str, float, int]]) -> list[Row]:
    """By the time spent in each itself; shares are of all."""
    whole = sum(seconds for _, seconds, _ in costs) or 1.0
    largest = sorted(costs, key=lambda cost: -cost[1])[:TOP]
    return [
        Row(f"{kind} {name}", seconds=seconds, n=1, figures={"share (%)": 100 * seconds / whole, "calls": calls})
        for name, seconds, calls in largest
    ]
