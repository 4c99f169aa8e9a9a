"""import: x_ue made by another tool becomes an output of `protect`, so that every later stage runs on it.

Images are paired with the clean ones by path, copied pixel by pixel into lossless PNG, and measured on the re-read
bytes. A budget that is given is checked over all images before anything is written; without one the largest changes
are recorded, and the manifest's budget is "none".
"""

import math
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from ue_audit import imagefolder, manifest, pairing, shards
from ue_audit.budget import Budget
from ue_audit.change import encode, mapping, reread
from ue_audit.config import Config, Levels, resolve
from ue_audit.imagefolder import Intake
from ue_audit.pairing import Sets
from ue_audit.progress import SILENT, Progress
from ue_audit.settings import AdoptSettings, Plan
from ue_audit.spelling import pasted
from ue_audit.statement import Manifest, statement
from ue_audit.traits import look, sample, traits

TRIAL = 16  # images timed for an estimate
UNLIKE = 15.0  # dB: a mean PSNR below it means that the pairs are hardly the same pictures
LOSSLESS_WEBP = b"VP8L"


class Allowed(Config):
    """What the other tool was allowed to change; at most one of them."""

    eps: Levels | None = Field(None, gt=0, le=1)
    l2: float | None = Field(None, gt=0)  # in [0,1] units at 32 px
    pixels: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _one(self) -> "Allowed":
        if sum(value is not None for value in (self.eps, self.l2, self.pixels)) > 1:
            raise ValueError("expected one of eps, l2 and pixels")
        return self

    def budget(self) -> Budget:
        if self.eps is not None:
            return Budget(norm="linf", limit=self.eps)
        if self.l2 is not None:
            return Budget(norm="l2", limit=self.l2)
        return Budget(norm="none", limit=0) if self.pixels is None else Budget(norm="l0", limit=self.pixels)


def run(settings: AdoptSettings, progress: Progress = SILENT) -> Path:
    """Import the protected images of `settings.source`; returns the sealed output folder.

    Raises InputRefused (images that are unusable or have no counterpart), UsageError (sizes that differ, a wrong
    folder, other parameters in the same place), IntegrityError (images that break the budget they are said to keep).
    """
    output = settings.place()
    shards.refuse_overlap(output, [settings.source, settings.clean])
    allowed, origins = resolve(Allowed, settings.layers, "import")
    sets = pairing.take_in(settings, progress)
    pairing.check_budget(sets, allowed.budget(), settings.size, progress)
    work = shards.Work.open(output, _parameters(settings, allowed, sets), fresh=settings.fresh)
    if work.complete:
        progress.say(f"{output} is up to date")
        return output
    _write(work, sets, allowed.budget(), settings.size, progress)
    return work.seal(lambda records: _statement(settings, allowed, origins, sets, records))


def plan(settings: AdoptSettings, progress: Progress = SILENT) -> Plan:
    """What `run` would do, from a full intake of both sets and a few images made; writes nothing."""
    output = settings.place()
    allowed, _ = resolve(Allowed, settings.layers, "import")
    sets = pairing.take_in(settings, progress)
    start, rows = time.monotonic(), range(min(TRIAL, len(sets)))
    for row in rows:
        x, x_ue = sets.pair(row, settings.size)
        encode(x, x_ue, Budget(norm="none", limit=0), "")
    return Plan(
        stage="import",
        output=str(output),
        images=len(sets),
        classes=len(sets.clean.data.classes),
        refused=len(sets.clean.refused) + len(sets.protected.refused),
        shards=len(_shards(sets, settings.size)),
        output_bytes=sum(3 * s.width * s.height for s in sets.protected.sources),
        free_bytes=shutil.disk_usage(output.resolve().parent).free,
        seconds_estimate=(time.monotonic() - start) * len(sets) / len(rows),
        notes=(f"every image has its clean original; budget {allowed.budget().norm}",),
    )


# -- writing ---------------------------------------------------------------------------------------------------


def _shards(sets: Sets, size: int | None) -> list[range]:
    return shards.plan(len(sets), _pixels(sets, size))


def _pixels(sets: Sets, size: int | None) -> int:
    """Of the largest image that will be written."""
    return size**2 if size else max((s.width * s.height for s in sets.protected.sources), default=1)


def _write(work: shards.Work, sets: Sets, budget: Budget, size: int | None, progress: Progress) -> None:
    listed, outputs = _shards(sets, size), sets.clean.outputs()
    if work.done:
        progress.say(f"{len(work.done)}/{len(listed)} shards done, resuming")
    progress.start("importing", len(sets))

    def image(row: int) -> tuple[bytes, dict[str, Any]]:
        x, x_ue = sets.pair(row, size)
        png, _, record = encode(x, x_ue, budget, outputs[row])
        return png, sets.clean.describe(row, outputs[row]) | _origin(sets.protected, row) | record

    with mapping(_pixels(sets, size)) as each:
        for number, rows in enumerate(listed):
            if str(number) not in work.done:
                made = [(png, record | {"shard": number}) for png, record in each(image, rows)]
                work.commit(str(number), {r["path"]: png for png, r in made}, [r for _, r in made])
            progress.advance(len(rows))
    progress.stop()


def _origin(protected: Intake, row: int) -> dict[str, Any]:
    """The part of a record that says which file of the other tool it comes from."""
    source = protected.sources[row]
    return {"imported": source.path, "imported_sha256": source.sha256, "actions": list(source.actions)}


# -- manifest --------------------------------------------------------------------------------------------------


def _parameters(settings: AdoptSettings, allowed: Allowed, sets: Sets) -> dict[str, Any]:
    return {
        "stage": "import",
        "method": settings.method,
        "config": allowed.model_dump(mode="json"),
        "size": settings.size,
        "limit": settings.limit,
        "source": manifest.source_digest(sets.protected.sources),
        "clean": manifest.source_digest(sets.clean.sources),
    }


def _statement(
    settings: AdoptSettings, allowed: Allowed, origins: dict[str, str], sets: Sets, records: list[dict[str, Any]]
) -> Manifest:
    output = settings.place()
    found = traits(look(*triple) for triple in reread(output, sets.parts.train, sample(records)))
    psnr = [r["psnr"] for r in records if r["psnr"] is not None]
    unchanged, lossy = len(records) - len(psnr), sum(_is_lossy(sets.protected, row) for row in range(len(sets)))
    return statement(
        stage="protect",
        method=settings.method,
        config=allowed.model_dump(mode="json"),
        origins=origins,
        settings=settings,
        budget=allowed.budget(),
        dependencies=list(_parents(settings, sets)),
        counts=sets.clean.counts()
        | {"written": len(records), "unchanged": unchanged, "lossy": lossy, "left_out": sets.left_out},
        notes={
            "imported": True,
            "partial": settings.limit is not None,
            "largest": _largest(records),
            "traits": found,
            "actions": dict(Counter(a for source in sets.protected.sources for a in source.actions)),
        },
        warnings=[*_warnings(settings, sets, psnr, lossy), *sets.clean.warnings()],
        summary={
            "images imported": len(records),
            "largest change (levels)": max(r["linf"] for r in records),
            "mean PSNR (dB)": round(float(np.mean(psnr)), 2) if psnr else None,
            "separability of the changes": found["separability"],
            "share of high frequencies": found["high_frequency_share"],
        },
        next=pasted("ue-audit", "purify", "--prior", "PRIOR.ckpt", output),
    )


def _parents(settings: AdoptSettings, sets: Sets) -> Iterator[manifest.Dependency]:
    """The clean images as the source, as `protect` has them; the folder imported, whole; test and validation images."""
    output, skipped = settings.place(), tuple(refusal.path for refusal in sets.clean.refused)
    clean = manifest.source_digest(sets.clean.sources)
    yield manifest.dependency(
        "source", sets.parts.train, output=output, digest=clean, limit=settings.limit, skipped=skipped
    )
    foreign = manifest.source_digest(sets.foreign)
    yield manifest.dependency("imported", sets.foreign.root, output=output, digest=foreign, flat=sets.flat)
    for name, place in (("test", sets.parts.test), ("val", sets.parts.val)):
        if place is not None:
            digest = manifest.source_digest(imagefolder.scan(place))
            yield manifest.dependency(name, place, output=output, digest=digest)


def _largest(records: list[dict[str, Any]]) -> dict[str, float]:
    """The largest changes, in the units of budgets: linf in levels, l2 at 32 px, l0 in pixels."""
    return {
        "linf": max(r["linf"] for r in records),
        "l2": max(32 * r["l2"] / math.sqrt(r["width"] * r["height"]) for r in records),
        "l0": max(r["changed"] for r in records),
    }


def _is_lossy(protected: Intake, row: int) -> bool:
    """Whether the file was compressed with loss: JPEG, and WebP that does not say it is lossless."""
    place = protected.listing.root / protected.sources[row].path
    if place.suffix.lower() != ".webp":
        return place.suffix.lower() in (".jpg", ".jpeg")
    with place.open("rb") as file:
        return file.read(16)[12:] != LOSSLESS_WEBP


def _warnings(settings: AdoptSettings, sets: Sets, psnr: list[float], lossy: int) -> Iterator[str]:
    count = len(sets)
    if lossy:
        yield (
            f"{lossy} of {count} protected images are JPEG or lossy WebP: such compression is itself a countermeasure "
            "and weakens the protection; import lossless files if there are any"
        )
    if len(psnr) < count:
        yield f"{count - len(psnr)} of {count} images are unchanged"
    if psnr and np.mean(psnr) < UNLIKE:
        yield f"the mean PSNR to the clean images is {np.mean(psnr):.1f} dB: are these the same pictures?"
    side = settings.size
    resized = sum(side is not None and (s.width, s.height) != (side, side) for s in sets.protected.sources)
    if resized:
        yield f"{resized} of {count} protected images were resized to {side} px, which may weaken the protection"
    if side is not None and any((s.width, s.height) != (side, side) for s in sets.clean.sources):
        yield f"clean images were resized to {side} px: a difference between two ways of resizing is measured, too"
    if sets.left_out:
        yield f"{sets.left_out} files were left out: no images, or without a clean original"
