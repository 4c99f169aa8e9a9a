"""protect: x -> x_ue. Loads a protection, quantises x + delta to 8 bits, and measures the budget on those bytes."""

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from ue_audit import imagefolder, manifest, methods, shards
from ue_audit.errors import IntegrityError, NonFiniteError
from ue_audit.imagefolder import Intake
from ue_audit.progress import SILENT, Progress
from ue_audit.settings import Plan, ProtectSettings
from ue_audit.statement import Budget, Manifest, RunDetails, statement
from ue_audit.tools import Tools, pick_device

Delta = Callable[[torch.Tensor], torch.Tensor]
BISECTIONS = 20


def run(settings: ProtectSettings, progress: Progress = SILENT) -> Path:
    """Protect the images of `settings.source` (its `train/` if it has one); returns the sealed output folder.

    Raises InputRefused (images), UsageError (settings, other parameters in the same folder), IntegrityError
    (a budget that the written bytes do not keep), ResourceError (device, disk).
    """
    parts, output = imagefolder.parts(settings.source), settings.place()
    shards.refuse_overlap(output, [settings.source])
    chosen = methods.configure("protection", settings.method, settings.layers)
    device = pick_device(settings.device)
    room = imagefolder.spill(settings.cache or output.parent)
    taken = imagefolder.take_in(parts.train, settings, array=room, progress=progress)
    work = shards.Work.open(output, _parameters(settings, chosen, taken), fresh=settings.fresh)
    if work.complete:
        progress.say(f"{output} is up to date")
        return output
    tools = Tools(device=device, seed=settings.seed, work=work.scratch, progress=progress)
    delta = chosen.module.generate(taken.data, chosen.config, tools)
    budget = _budget(chosen)
    _write(work, taken, delta, budget, settings, progress)
    return work.seal(lambda records: _statement(settings, chosen, parts, taken, records, budget, tools))


def plan(settings: ProtectSettings, progress: Progress = SILENT) -> Plan:
    """What `run` would do, from a full intake and the method's own estimate; writes nothing."""
    parts, output = imagefolder.parts(settings.source), settings.place()
    chosen = methods.configure("protection", settings.method, settings.layers)
    taken = imagefolder.take_in(parts.train, settings, progress=progress)
    tools = Tools(device=pick_device(settings.device), seed=settings.seed)
    estimate = getattr(chosen.module, "estimate", None)
    return Plan(
        stage="protect",
        output=str(output),
        images=len(taken.data),
        classes=len(taken.data.classes),
        refused=len(taken.refused),
        shards=len(_shards(taken, settings)),
        output_bytes=sum(3 * s.width * s.height for s in taken.sources),
        free_bytes=shutil.disk_usage(output.resolve().parent).free,
        seconds_estimate=estimate(taken.data, chosen.config, tools) if estimate else None,
        notes=(f"method {chosen.name}, device {tools.device}",),
    )


def _parameters(settings: ProtectSettings, chosen: methods.Chosen, taken: Intake) -> dict[str, Any]:
    return {
        "stage": "protect",
        "method": chosen.name,
        "config": chosen.config.model_dump(mode="json"),
        "seed": settings.seed,
        "size": settings.size,
        "resize_output": settings.resize_output,
        "limit": settings.limit,
        "source": manifest.source_digest(taken.sources),
    }


def _budget(chosen: methods.Chosen) -> Budget:
    """The norm the module declares and its limit: `eps` for linf, `l2` (at 32 px) for l2, `pixels` for l0."""
    field = {"linf": "eps", "l2": "l2", "l0": "pixels", "none": None}[chosen.module.BUDGET]
    return Budget(norm=chosen.module.BUDGET, limit=getattr(chosen.config, field) if field else 0.0)


# -- writing -----------------------------------------------------------------------------------------------


def _shards(taken: Intake, settings: ProtectSettings) -> list[range]:
    native = max((s.width * s.height for s in taken.sources), default=1)
    return shards.plan(len(taken.data), taken.data.size**2 if settings.resize_output else native)


def _write(
    work: shards.Work, taken: Intake, delta: Delta, budget: Budget, settings: ProtectSettings, progress: Progress
) -> None:
    listed, outputs = _shards(taken, settings), taken.outputs()
    progress.start("writing", len(taken.data))
    for number, rows in enumerate(listed):
        if str(number) not in work.done:
            files, records = {}, []
            for row, levels in zip(rows, _levels(delta, rows), strict=True):
                path = outputs[row]
                x = taken.data.pixels[row] if settings.resize_output else taken.native(row)
                x_ue = quantise(x, _fit(levels, x.shape[:2]), budget)
                files[path], record = _encode(x, x_ue, levels, budget, path)
                records.append(taken.describe(row, path) | record | {"shard": number})
            work.commit(str(number), files, records)
        progress.advance(len(rows))
    progress.stop()


def _levels(delta: Delta, rows: range) -> np.ndarray:
    """255 * delta of these rows as (B,S,S,3) float32. Raises NonFiniteError."""
    values = delta(torch.arange(rows.start, rows.stop)).detach().float().cpu()
    if not torch.isfinite(values).all():
        raise NonFiniteError(f"the protection gave NaN or infinity in rows {rows.start} to {rows.stop - 1}")
    return (255 * values).permute(0, 2, 3, 1).contiguous().numpy()


def _fit(levels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The change at an image's native height and width, bilinear; quantising projects it onto the budget."""
    if levels.shape[:2] == shape:
        return levels
    grid = torch.from_numpy(levels).permute(2, 0, 1)[None]
    return F.interpolate(grid, size=shape, mode="bilinear", align_corners=False)[0].permute(1, 2, 0).numpy()


def quantise(x: np.ndarray, levels: np.ndarray, budget: Budget) -> np.ndarray:
    """clip(rint(x + levels)) as uint8 (H,W,3), never outside the budget.

    linf: exact, since x is whole and |levels| is clipped to the limit. l2: the largest factor, found by bisection,
    whose rounded and clipped change keeps the limit (reference: rounding alone breaks it for a third of images).
    """
    if budget.norm == "linf":
        limit = np.rint(255 * budget.limit)
        return _round(x, np.clip(levels, -limit, limit))
    if budget.norm != "l2":
        return _round(x, levels)
    most = budget.at(x.shape[0], x.shape[1])
    low, high = 0.0, 1.25  # above 1, since rounding to nearest can shrink a change
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if l2(x, _round(x, middle * levels)) <= most else (low, middle)
    return _round(x, low * levels)


def _round(x: np.ndarray, levels: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = np.clip(np.rint(x + levels), 0, 255).astype(np.uint8)
    return rounded


def l2(x: np.ndarray, y: np.ndarray) -> float:
    """||y - x||_2 of two uint8 images in [0,1] units, from whole numbers."""
    return float(np.sqrt(np.square(y.astype(np.int64) - x).sum()) / 255)


def _encode(
    x: np.ndarray, x_ue: np.ndarray, levels: np.ndarray, budget: Budget, path: str
) -> tuple[bytes, dict[str, Any]]:
    """The PNG and what is true of its re-read pixels. Raises IntegrityError if they break the budget."""
    png = imagefolder.encode_png(x_ue)
    written = imagefolder.decode(png).pixels
    change = written.astype(np.int64) - x
    record: dict[str, Any] = {
        "sha256": hashlib.sha256(png).hexdigest(),
        "pixels_sha256": imagefolder.pixels_sha256(written),
        "width": written.shape[1],
        "height": written.shape[0],
        "linf": int(np.abs(change).max()),
        "l2": l2(x, written),
        "psnr": _psnr(change),
        "clipped": float(np.mean((x + np.rint(_fit(levels, x.shape[:2])) != written) & (written % 255 == 0))),
    }
    if not budget.holds(x, written):
        raise IntegrityError(
            f"{path}: expected a change of at most {budget.at(*x.shape[:2]):g} ({budget.norm}), "
            f"found {budget.measure(x, written):g} in the written bytes",
            hint="nothing of this shard was kept; please report it",
        )
    return png, record


def _psnr(change: np.ndarray) -> float | None:
    """10 log10(255^2 / MSE) in dB; None for two equal images."""
    error = float(np.mean(np.square(change)))
    return 10 * float(np.log10(255**2 / error)) if error else None


# -- manifest ----------------------------------------------------------------------------------------------


def _statement(
    settings: ProtectSettings,
    chosen: methods.Chosen,
    parts: imagefolder.Parts,
    taken: Intake,
    records: list[dict[str, Any]],
    budget: Budget,
    tools: Tools,
) -> Manifest:
    output = settings.place()
    psnr = [r["psnr"] for r in records if r["psnr"] is not None]
    warnings = [*tools.notes.pop("warnings", []), *taken.warnings()]
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
                limit=settings.limit,
                skipped=tuple(refusal.path for refusal in taken.refused),
            ),
            *(_held_out(name, path, output) for name in ("test", "val") if (path := getattr(parts, name)) is not None),
        ],
        counts=taken.counts() | {"written": len(records)},
        notes=tools.notes | {"partial": settings.limit is not None},
        warnings=warnings,
        summary={
            "images protected": len(records),
            "largest change (levels)": max(r["linf"] for r in records),
            "mean PSNR (dB)": round(float(np.mean(psnr)), 2) if psnr else None,
        },
        next=f"ue-audit purify --prior PRIOR.ckpt {output}",
        run=RunDetails(device=str(tools.device)),
    )


def _held_out(name: str, folder: Path, output: Path) -> manifest.Dependency:
    """The owner's test or validation images, which are never protected, by the digest of their files."""
    digest = manifest.source_digest(imagefolder.scan(folder))
    return manifest.dependency(name, folder, output=output, digest=digest)
