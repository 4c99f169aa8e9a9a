"""protect: x -> x_ue. Loads a protection, quantises x + delta to 8 bits, and measures the budget on those bytes."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ue_audit import imagefolder, manifest, methods, shards
from ue_audit.change import SMALL, encode, mapping, quantise_all
from ue_audit.errors import NonFiniteError, UsageError
from ue_audit.imagefolder import Intake, Pixels, to_float
from ue_audit.progress import SILENT, Progress
from ue_audit.selection import Spread, select
from ue_audit.settings import Plan, ProtectSettings
from ue_audit.spelling import pasted
from ue_audit.statement import Budget, Manifest, RunDetails, statement
from ue_audit.tools import Tools, pick_device
from ue_audit.traits import Look, look, most, sample, traits

Delta = Callable[[torch.Tensor], torch.Tensor]


def run(settings: ProtectSettings, progress: Progress = SILENT) -> Path:
    """Protect the images of `settings.source` (its `train/` if it has one); returns the sealed output folder.

    Raises InputRefused (images), UsageError (settings, other parameters in the same folder), IntegrityError
    (a budget that the written bytes do not keep), ResourceError (device, disk).
    """
    parts, output = imagefolder.parts(settings.source), settings.place()
    shards.refuse_overlap(output, [settings.source])
    chosen = methods.configure("protection", settings.method, settings.layers)
    device, weights = pick_device(settings.device), _weights(settings, chosen)
    room = imagefolder.spill(settings.cache or output.parent)
    taken = imagefolder.take_in(parts.train, settings, flat=None, array=room, progress=progress)
    work = shards.Work.open(output, _parameters(settings, chosen, taken), fresh=settings.fresh)
    if work.complete:
        progress.say(f"{output} is up to date")
        return output
    known: dict[str, Any] = {"device": device, "seed": settings.seed, "weights": weights, "progress": progress}
    tools = Tools(**known, work=work.scratch, saved=work.tick)
    delta = _delta(chosen, taken, settings, tools)
    budget = Budget(norm=chosen.module.BUDGET, limit=methods.limit(chosen.module, chosen.config))
    looks = _write(work, taken, delta, budget, settings, progress)
    return work.seal(lambda records: _statement(settings, chosen, parts, taken, records, looks, budget, tools))


def plan(settings: ProtectSettings, progress: Progress = SILENT) -> Plan:
    """What `run` would do, from a full intake and the method's own estimate; writes nothing."""
    parts, output = imagefolder.parts(settings.source), settings.place()
    chosen = methods.configure("protection", settings.method, settings.layers)
    weights = _weights(settings, chosen)
    taken = imagefolder.take_in(parts.train, settings, flat=None, progress=progress)
    tools = Tools(device=pick_device(settings.device), seed=settings.seed, weights=weights)
    part = taken.data.take(select(taken.data, settings.ratio, settings.seed))
    estimate, passes = getattr(chosen.module, "estimate", None), chosen.module.passes(chosen.config, len(part))
    return Plan(
        stage="protect",
        output=str(output),
        images=len(taken.data),
        classes=len(taken.data.classes),
        refused=len(taken.refused),
        shards=len(_shards(taken, settings)),
        output_bytes=sum(3 * s.width * s.height for s in taken.sources),
        free_bytes=shutil.disk_usage(output.resolve().parent).free,
        seconds_estimate=estimate(part, chosen.config, tools) if estimate else None,
        notes=(
            f"method {chosen.name}, device {tools.device}",
            f"{passes:,.0f} forward and backward passes of a network an image",
        ),
    )


def _parameters(settings: ProtectSettings, chosen: methods.Chosen, taken: Intake) -> dict[str, Any]:
    return {
        "stage": "protect",
        "method": chosen.name,
        "config": chosen.config.model_dump(mode="json"),
        "encoder": settings.encoder and manifest.file_sha256(settings.encoder),
        "ratio": settings.ratio,
        "seed": settings.seed,
        "size": settings.size,
        "resize_output": settings.resize_output,
        "limit": settings.limit,
        "source": manifest.source_digest(taken.sources),
    }


def _weights(settings: ProtectSettings, chosen: methods.Chosen) -> dict[str, Path]:
    """The encoder, where one is given. Raises UsageError if the method has no use for it."""
    if settings.encoder is None:
        return {}
    if "encoder" not in chosen.module.NEEDS:
        raise UsageError(
            f"{chosen.name} uses no encoder, and was given {settings.encoder}",
            hint="leave --encoder out; `ue-audit list methods` says which methods need one",
        )
    return {"encoder": settings.encoder}


def _delta(chosen: methods.Chosen, taken: Intake, settings: ProtectSettings, tools: Tools) -> Delta:
    """The method's delta; of a part of the images, where only a share is to be protected."""
    rows = select(taken.data, settings.ratio, settings.seed)
    tools.note("passes", round(chosen.module.passes(chosen.config, len(rows)), 1))
    if len(rows) == len(taken.data):
        return chosen.module.generate(taken.data, chosen.config, tools)  # type: ignore[no-any-return]
    tools.note("protected", len(rows))
    delta = chosen.module.generate(taken.data.take(rows), chosen.config, tools)
    return Spread(delta, rows, len(taken.data), taken.data.size)


# -- writing -----------------------------------------------------------------------------------------------


def _shards(taken: Intake, settings: ProtectSettings) -> list[range]:
    return shards.plan(len(taken.data), _pixels(taken, settings))


def _pixels(taken: Intake, settings: ProtectSettings) -> int:
    """Of the largest image that will be written."""
    native = max((s.width * s.height for s in taken.sources), default=1)
    return taken.data.size**2 if settings.resize_output else native


def _write(
    work: shards.Work, taken: Intake, delta: Delta, budget: Budget, settings: ProtectSettings, progress: Progress
) -> dict[str, Look]:
    """Commit every shard that is not done. The looks at their images by path, where `sample` will ask for all."""
    outputs, pixels, looks = taken.outputs(), _pixels(taken, settings), dict[str, Look]()
    progress.start("writing", len(taken.data))

    def image(row: int, x: Pixels, levels: np.ndarray, x_ue: Pixels) -> tuple[bytes, dict[str, Any]]:
        png, written, record = encode(x, x_ue, budget, outputs[row])
        if len(outputs) <= most(pixels):
            looks[outputs[row]] = look(x, written, taken.sources[row].label)
        clipped = float(np.mean((x + np.rint(levels) != written) & (written % 255 == 0)))
        return png, taken.describe(row, outputs[row]) | record | {"clipped": clipped}

    def images(rows: range, levels: np.ndarray) -> list[tuple[bytes, dict[str, Any]]]:
        x = [_original(taken, row, settings) for row in rows]
        changes = [_fit(delta, row, *pair) for row, *pair in zip(rows, x, levels, strict=True)]
        return [image(*each) for each in zip(rows, x, changes, quantise_all(x, changes, budget), strict=True)]

    with mapping(pixels) as each:
        for number, rows in enumerate(_shards(taken, settings)):
            if str(number) not in work.done:
                levels, some = _levels(delta, rows), max(1, SMALL // pixels)
                starts = range(0, len(rows), some)
                runs = each(images, (rows[k : k + some] for k in starts), (levels[k : k + some] for k in starts))
                made = [(png, record | {"shard": number}) for run in runs for png, record in run]
                work.commit(str(number), {r["path"]: png for png, r in made}, [r for _, r in made])
            progress.advance(len(rows))
    progress.stop()
    return looks


def _original(taken: Intake, row: int, settings: ProtectSettings) -> Pixels:
    """The image that is changed: at its native size, which is read again only where it is not the working size."""
    source = taken.sources[row]
    held = settings.resize_output or source.width == source.height == taken.data.size
    return taken.data.pixels[row] if held else taken.native(row)


def _levels(delta: Delta, rows: range) -> np.ndarray:
    """255 * delta of these rows as (B,S,S,3) float32. Raises NonFiniteError."""
    values = delta(torch.arange(rows.start, rows.stop)).detach().float().cpu()
    if not torch.isfinite(values).all():
        raise NonFiniteError(f"the protection gave NaN or infinity in rows {rows.start} to {rows.stop - 1}")
    return (255 * values).permute(0, 2, 3, 1).contiguous().numpy()


def _fit(delta: Delta, row: int, x: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """The change at an image's native height and width: the method's own, or bilinear. Quantising keeps the budget."""
    if levels.shape == x.shape:
        return levels
    if hasattr(delta, "native"):
        change = 255 * delta.native(row, to_float(x[None])[0]).cpu()
    else:
        grid = torch.from_numpy(levels).permute(2, 0, 1)[None]
        change = F.interpolate(grid, size=x.shape[:2], mode="bilinear", align_corners=False)[0]
    if not torch.isfinite(change).all():
        raise NonFiniteError(f"the protection gave NaN or infinity in row {row}")
    return np.asarray(change.permute(1, 2, 0).contiguous())


# -- manifest ----------------------------------------------------------------------------------------------


def _statement(
    settings: ProtectSettings,
    chosen: methods.Chosen,
    parts: imagefolder.Parts,
    taken: Intake,
    records: list[dict[str, Any]],
    looks: Mapping[str, Look],
    budget: Budget,
    tools: Tools,
) -> Manifest:
    output = settings.place()
    psnr = [r["psnr"] for r in records if r["psnr"] is not None]
    warnings = [*tools.notes.pop("warnings", []), *taken.warnings()]
    working = None if settings.resize_output else settings.size
    rows = {source.path: row for row, source in enumerate(taken.sources)}

    def earlier(record: Mapping[str, Any]) -> Look:
        """Read again: of a sitting before, or of a set too large to keep."""
        x = _original(taken, rows[record["source"]], settings)
        return look(x, imagefolder.decode(output / record["path"]).pixels, record["label"])

    found = traits(looks.get(record["path"]) or earlier(record) for record in sample(records))
    return statement(
        stage="protect",
        method=chosen.name,
        config=chosen.config.model_dump(mode="json"),
        origins=chosen.origins,
        settings=settings,
        budget=budget,
        dependencies=[
            manifest.dependency(
                "source",
                parts.train,
                output=output,
                digest=manifest.source_digest(taken.sources),
                flat=not taken.data.classes,
                limit=settings.limit,
                skipped=tuple(refusal.path for refusal in taken.refused),
            ),
            *(
                manifest.dependency(name, path, output=output, digest=manifest.file_sha256(path))
                for name, path in _weights(settings, chosen).items()
            ),
            *(_held_out(name, path, output) for name in ("test", "val") if (path := getattr(parts, name)) is not None),
        ],
        counts=taken.counts() | {"written": len(records)},
        notes=tools.notes | {"partial": settings.limit is not None, "traits": found},
        warnings=warnings,
        summary={
            "images protected": tools.notes.get("protected", len(records)),
            "largest change (levels)": max(r["linf"] for r in records),
            "mean PSNR (dB)": round(float(np.mean(psnr)), 2) if psnr else None,
        },
        next=pasted("ue-audit", "purify", "--prior", "PRIOR.ckpt", output, size=working),
        run=RunDetails(device=str(tools.device)),
    )


def _held_out(name: str, folder: Path, output: Path) -> manifest.Dependency:
    """The owner's test or validation images, which are never protected, by the digest of their files."""
    digest = manifest.source_digest(imagefolder.scan(folder))
    return manifest.dependency(name, folder, output=output, digest=digest)
