"""Training: the learner's loop beside plain loops of the same network, batch, epochs, rates and images.

One run is one epoch, after an epoch to warm up. `evaluate` runs several trainings at once on a CPU, each with one
thread: the row "as evaluate runs them" has that many, and counts the images of all. With --accuracy whole trainings are
run both ways on the clean and the protected set, one for each seed.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from ue_audit import imagefolder
from ue_audit.benches import child, plain_training, timing
from ue_audit.benches.rows import Goal, Part, Row, compared, ratio_of
from ue_audit.benches.scene import Scene
from ue_audit.benches.timing import Contender
from ue_audit.crew import AT_ONCE
from ue_audit.imagefolder import ImageData
from ue_audit.learners import supervised
from ue_audit.tools import Epoch, Tools, substream
from ue_audit.training import backbones

TITLE = "Training"
FOLDER, MEMORY = "plain loop, PNG folder", "plain loop, in memory"
ALONE, TOGETHER = "one training", "as evaluate runs them"
GOAL, SEED_NOISE = 2.0, 0.02  # times faster; difference of accuracies that seeds explain


def run(scene: Scene) -> Part:
    config = recipe(scene.amounts.repeats + 1)
    limit = scene.amounts.images if scene.settings.quick else None
    folder = scene.protected(limit)
    data = decoded(folder)
    threads = min(torch.get_num_threads(), AT_ONCE) if scene.device.type == "cpu" else 1
    contenders = {
        FOLDER: Contender(_epochs(plain(FOLDER, folder, data, config, 0, scene.device)[1]), _seen(data, config)),
        MEMORY: Contender(_epochs(plain(MEMORY, folder, data, config, 0, scene.device)[1]), _seen(data, config)),
        ALONE: Contender(_epochs(ours(data, config, 0, scene.device)), _seen(data, config)),
    }
    if threads > 1:
        several = [ours(data, config, seed, scene.device) for seed in range(threads)]
        contenders[TOGETHER] = Contender(lambda: _together(several), threads * _seen(data, config))
    measured = timing.interleaved(contenders, scene.amounts.repeats, scene.device, scene.progress)
    peaks = {
        name: child.run(f"{__name__}:once", name=name, folder=str(folder), device=str(scene.device)).peak_memory
        for name in contenders
    }
    rows = compared(measured, MEMORY, peaks=peaks)
    best = TOGETHER if threads > 1 else ALONE
    goals = [Goal(f"{best}: times faster than in-memory data in a plain loop", GOAL, ratio_of(rows, best))]
    notes = [f"Network {config.backbone}, batch {config.batch}, {len(data)} images of {data.size} px; one epoch a run."]
    if scene.settings.accuracy:
        accurate, more = accuracies(scene, folder)
        rows, goals = [*rows, *accurate], [*goals, *more]
    return Part(rows, goals, notes)


def recipe(epochs: int | None) -> supervised.Config:
    """The learner's defaults, for that many epochs."""
    return supervised.Config.model_validate({} if epochs is None else {"epochs": epochs})


def ours(data: ImageData, config: supervised.Config, seed: int, device: torch.device) -> Iterator[Epoch]:
    return supervised.fit(data, config, Tools(device=device, seed=substream(seed, "bench training")))


def plain(
    name: str, folder: Path, data: ImageData, config: supervised.Config, seed: int, device: torch.device
) -> tuple[torch.nn.Module, Iterator[float]]:
    """The network, channels first as torch makes it, and the loop that trains it."""
    network = backbones.build(config.backbone, len(data.classes), substream(seed, "bench plain"))
    network = network.to(memory_format=torch.contiguous_format)
    if name == FOLDER:
        batches = plain_training.in_folder(str(folder), data.size, config)
    else:
        x, y = levels(data)
        batches = plain_training.in_memory(x, y, config)
    return network, plain_training.learn(network, batches, config, device)


def levels(data: ImageData) -> tuple[Tensor, Tensor]:
    """Images (N,3,S,S) uint8 and labels."""
    assert data.labels is not None
    return torch.tensor(data.pixels).permute(0, 3, 1, 2).contiguous(), data.labels


def decoded(folder: Path, **options: Any) -> ImageData:
    return imagefolder.intake(imagefolder.scan(folder, **options)).data


def once(name: str, folder: str, device: str) -> None:
    """One epoch of a contender."""
    data, config, place = decoded(Path(folder)), recipe(1), torch.device(device)
    if name == TOGETHER:
        _together([ours(data, config, seed, place) for seed in range(torch.get_num_threads())])
        return
    next(iter(ours(data, config, 0, place) if name == ALONE else plain(name, Path(folder), data, config, 0, place)[1]))


def _epochs(epochs: Iterator[Any]) -> Callable[[], Any]:
    return lambda: next(epochs)


def _seen(data: ImageData, config: supervised.Config) -> int:
    """Images of an epoch: whole batches."""
    batch = min(config.batch, len(data))
    return len(data) // batch * batch


def _together(several: list[Iterator[Epoch]]) -> None:
    """An epoch of each at once, in a thread each, as `crew.run_all` has it."""
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(len(several), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(next, several))
    torch.set_num_threads(threads)


# -- accuracy ------------------------------------------------------------------------------------------------


def accuracies(scene: Scene, protected: Path) -> tuple[list[Row], list[Goal]]:
    """Whole trainings both ways, on clean and protected images, one for each seed."""
    config = recipe(1 if scene.settings.quick else None)
    train = scene.images / "train"
    limit = scene.amounts.images if scene.settings.quick else None
    sets = {"clean": (train, decoded(train, limit=limit)), "protected": (protected, decoded(protected))}
    test = decoded(scene.images / "test").with_classes(sets["clean"][1].classes)
    found: dict[str, dict[str, list[float]]] = {MEMORY: {}, ALONE: {}}
    scene.progress.start("training both ways", 4 * scene.amounts.seeds, "trainings")
    for label, (folder, data) in sets.items():
        for seed in range(scene.amounts.seeds):
            for name in found:
                score = _accuracy(name, folder, data, test, config, seed, scene.device)
                found[name].setdefault(label, []).append(score)
                scene.progress.advance(accuracy=score)
    scene.progress.stop()
    rows = [Row(what=f"{name}: accuracy (%)", n=scene.amounts.seeds, figures=_shown(found[name])) for name in found]
    gaps = {label: abs(mean(found[ALONE][label]) - mean(found[MEMORY][label])) for label in sets}
    goals = [Goal(f"difference of {label} accuracies", SEED_NOISE, gap, at_least=False) for label, gap in gaps.items()]
    return rows, goals


def _accuracy(
    name: str,
    folder: Path,
    data: ImageData,
    test: ImageData,
    config: supervised.Config,
    seed: int,
    device: torch.device,
) -> float:
    assert test.labels is not None
    x, batch = test.batch(slice(None)), 500
    if name == ALONE:
        *_, last = ours(data, config, seed, device)
        right = [last.predict(part.to(device)).argmax(1).cpu() for part in torch.split(x, batch)]
        return float((torch.cat(right) == test.labels).float().mean())
    network, epochs = plain(name, folder, data, config, seed, device)
    list(epochs)
    return plain_training.accuracy(network, x, test.labels, batch, device)


def _shown(found: dict[str, list[float]]) -> dict[str, float | None]:
    shown: dict[str, float | None] = {}
    for label, values in found.items():
        shown |= {label: 100 * mean(values), f"{label}, lowest": 100 * min(values)}
        shown[f"{label}, highest"] = 100 * max(values)
    return shown
