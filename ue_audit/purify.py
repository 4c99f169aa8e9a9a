"""purify: x_ue -> x_le, the attacker's move. Runs a purifier by shards and measures against the clean originals."""

import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ue_audit import imagefolder, manifest, methods, purified, shards, sharing
from ue_audit.config import Config, dotted
from ue_audit.diffusion.prior import importing
from ue_audit.errors import IntegrityError, NonFiniteError, ResourceError
from ue_audit.fidelity import Measure
from ue_audit.imagefolder import ImageData, Intake, to_float, to_uint8
from ue_audit.progress import SILENT, Progress
from ue_audit.settings import Plan, PurifySettings
from ue_audit.statement import RunDetails
from ue_audit.stopwatch import Stopwatch
from ue_audit.tools import Batch, Tools, pick_device
from ue_audit.training import lpips_weights

Purify = Callable[[Batch], torch.Tensor]
FOUND = "automatic"  # the origin of a setting that the method completed


def run(settings: PurifySettings, progress: Progress = SILENT) -> Path:
    """Purify every image of `settings.source` at the working size; returns the sealed output folder.

    With `settings.shard` only those of one part; what a method fits to the images, it fits to all of them.
    Raises InputRefused, UsageError, IntegrityError (a corrupt prior), ResourceError (prior or weights missing).
    """
    source, output = imagefolder.parts(settings.source).train, settings.place()
    shards.refuse_overlap(output, [settings.source])
    chosen = methods.configure("purifier", settings.method, settings.layers)
    device, weights = pick_device(settings.device), _weights(settings, chosen)
    known: dict[str, Any] = {"device": device, "seed": settings.seed, "weights": weights}
    known["eps"] = _eps(settings, source)
    attacker = {"needs": list(chosen.module.NEEDS), "knows": methods.knows(chosen, known["eps"])}
    chosen, notes = _settled(chosen, Tools(**known))
    room = imagefolder.spill(settings.cache or output.parent)
    taken = imagefolder.take_in(source, settings, flat=None, array=room, progress=progress)
    manifest.check_taken(source, taken.sources)
    work = shards.Work.open(output, _parameters(settings, chosen, taken, weights), fresh=settings.fresh)
    if work.complete:
        progress.say(f"{output} is up to date")
        return output
    tools = Tools(**known, work=work.scratch, progress=progress)
    tools.notes |= notes | {"attacker": attacker}
    with (watch := Stopwatch(Tools(work=work.scratch), "purifying")):
        purify = chosen.module.build(taken.data, chosen.config, tools)
    measure = Measure(settings.clean, source, taken.data, weights.get("lpips"), device)
    _write(work, taken, _dealt(taken, settings, progress), purify, measure, progress, watch)
    details = RunDetails(device=str(device), measures={"purifying seconds": round(watch.seconds, 6)})
    return work.seal(
        lambda records: purified.account(settings, chosen, source, taken, records, tools.notes, weights, details)
    )


def plan(settings: PurifySettings, progress: Progress = SILENT) -> Plan:
    """What `run` would do, its time calibrated on one batch; writes nothing."""
    source = imagefolder.parts(settings.source).train
    chosen = methods.configure("purifier", settings.method, settings.layers)
    device, weights = pick_device(settings.device), _weights(settings, chosen)
    tools = Tools(device=device, seed=settings.seed, weights=weights, eps=_eps(settings, source))
    chosen, _ = _settled(chosen, tools)
    taken = imagefolder.take_in(source, settings, flat=None, progress=progress)
    purify = chosen.module.build(taken.data, chosen.config, tools)
    rows = range(min(32, len(taken.data)))
    start = time.monotonic()
    purify(_batch(taken.data, rows))
    seconds = time.monotonic() - start
    dealt = _dealt(taken, settings, progress)
    images = sum(map(len, dealt.values()))
    return Plan(
        stage="purify",
        output=str(settings.place()),
        images=images,
        classes=len(taken.data.classes),
        refused=len(taken.refused),
        shards=len(dealt),
        output_bytes=images * 3 * taken.data.size**2,
        free_bytes=shutil.disk_usage(settings.place().resolve().parent).free,
        seconds_estimate=seconds / len(rows) * images,
        notes=(f"method {chosen.name}, device {tools.device}", *_found(chosen), *tools.notes.get("warnings", [])),
    )


def _weights(settings: PurifySettings, chosen: methods.Chosen) -> dict[str, Path]:
    """Where the weights lie that this method needs, and LPIPS; a prior that is named and missing is an error.

    A prior that is not needed is left alone: it is no part of what was done, nor of what it cost.
    """
    found: dict[str, Path] = {}
    if settings.prior is not None and "prior" in chosen.module.NEEDS:
        if settings.prior.is_dir():
            raise IntegrityError(
                f"{settings.prior}: expected a prior of ue-audit, found a folder", hint=importing(settings.prior)
            )
        if not settings.prior.is_file():
            raise ResourceError(
                f"expected a prior, found no file at {settings.prior}",
                hint=f"train one: ue-audit train-prior RAW_FOLDER -o {settings.prior}",
            )
        found["prior"] = settings.prior
    named = getattr(chosen.config, "weights", None)
    guides = {value for name, value in _settings(chosen.config) if name.rpartition(".")[2] == "guide"}
    if "lpips-vgg" in guides:
        vgg, named = lpips_weights.find(named, "vgg"), None
        found |= {"lpips-vgg": vgg} if vgg else {}
    lpips = lpips_weights.find(named)
    return found | ({"lpips": lpips} if lpips else {})


def _eps(settings: PurifySettings, source: Path) -> float | None:
    """The linf budget of the protection to take out, in [0,1]: the one named, else its own; None if there is none."""
    if settings.eps is not None:
        return settings.eps
    source = settings.like or source
    line = [manifest.find(source), *(found for _, _, found in manifest.ancestors(source))]
    budget = next((m.budget for m in line if m is not None and m.stage == "protect"), None)
    return budget.limit if budget is not None and budget.norm == "linf" and budget.limit else None


def _settled(chosen: methods.Chosen, tools: Tools) -> tuple[methods.Chosen, dict[str, Any]]:
    """The method with its settings completed, and what it noted meanwhile."""
    settle = getattr(chosen.module, "settle", None)
    if settle is None:
        return chosen, {}
    config = settle(chosen.config, tools)
    before, after = dict(_settings(chosen.config)), _settings(config)
    found = {name: FOUND for name, value in after if before[name] != value}
    return chosen._replace(config=config, origins=chosen.origins | found), dict(tools.notes)


def _found(chosen: methods.Chosen) -> list[str]:
    """In words, the settings that the method completed itself."""
    return [f"{name} {value}" for name, value in _settings(chosen.config) if chosen.origins.get(name) == FOUND]


def _settings(config: Config) -> list[tuple[str, Any]]:
    """Every single setting; those of a link of a chain with its name and a dot."""
    return [(name, value) for name, value in dotted(config.model_dump(mode="json")) if not isinstance(value, dict)]


def _parameters(
    settings: PurifySettings, chosen: methods.Chosen, taken: Intake, weights: dict[str, Path]
) -> dict[str, Any]:
    part = {"shard": settings.shard} if settings.shard else {}
    return part | {
        "stage": "purify",
        "method": chosen.name,
        "config": chosen.config.model_dump(mode="json"),
        "seed": settings.seed,
        "size": taken.data.size,
        "limit": settings.limit,
        "source": manifest.source_digest(taken.sources),
        "weights": {name: manifest.file_sha256(path) for name, path in weights.items()},
    }


# -- purifying and measuring -------------------------------------------------------------------------------


def _dealt(taken: Intake, settings: PurifySettings, progress: Progress) -> dict[int, range]:
    """Rows by the number of their shard: all, or those of a part."""
    listed = shards.plan(len(taken.data), taken.data.size**2)
    dealt = sharing.dealt(listed, settings.shard)
    if settings.shard is not None:
        progress.say(f"part {settings.shard}: {len(dealt)} of {len(listed)} shards{'' if dealt else ', nothing to do'}")
    return dealt


def _batch(data: ImageData, rows: range) -> Batch:
    index = torch.arange(rows.start, rows.stop)
    labels = None if data.labels is None else data.labels[index]
    return Batch(data.batch(index), labels, index, [data.keys[row] for row in rows])


def _write(
    work: shards.Work,
    taken: Intake,
    dealt: dict[int, range],
    purify: Purify,
    measure: Measure,
    progress: Progress,
    watch: Stopwatch,
) -> None:
    outputs = taken.outputs()
    if work.done:
        progress.say(f"{len(work.done)}/{len(dealt)} shards done, resuming")
    progress.start("purifying", sum(map(len, dealt.values())))
    for number, rows in dealt.items():
        if str(number) not in work.done:
            batch = _batch(taken.data, rows)
            with watch:
                x_le = purify(batch)
                finite = torch.isfinite(x_le).all().item()  # waits for a GPU
            if not finite:
                raise NonFiniteError(f"the purifier gave NaN or infinity in rows {rows.start} to {rows.stop - 1}")
            pixels = to_uint8(x_le)
            files, records = {}, []
            for row, x, figures in zip(rows, pixels, measure(rows, batch.x, to_float(pixels)), strict=True):
                path = outputs[row]
                files[path] = imagefolder.encode_png(x)
                record = {
                    "sha256": hashlib.sha256(files[path]).hexdigest(),
                    "pixels_sha256": imagefolder.pixels_sha256(x),
                    "width": x.shape[1],
                    "height": x.shape[0],
                    "shard": number,
                }
                records.append(taken.describe(row, path) | record | figures)
            work.commit(str(number), files, records)
        progress.advance(len(rows))
    progress.stop()
