"""split: one set of images becomes disjoint train/, val/, test/ and raw/, from which every audit starts.

    data/<class>/…  ──▶  data.split/train/<class>/…  val/…  test/…  raw/…

Files are copied byte for byte, never linked: an original that is edited later changes no split. Images of equal pixels
and those that look alike (lookalikes.py) land in one part; where the source has parts of its own, an image that is in
two of them is taken once only.
"""

import hashlib
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from ue_audit import candidates, placing, shards, splitting
from ue_audit.candidates import Found
from ue_audit.config import resolve
from ue_audit.digests import tree_digest
from ue_audit.errors import IntegrityError, UsageError
from ue_audit.placing import Image, Placed
from ue_audit.progress import SILENT, Progress
from ue_audit.settings import Plan, ProtectSettings
from ue_audit.spelling import command
from ue_audit.statement import Manifest, statement
from ue_audit.tool_settings import SplitSettings

SHARD_BYTES, SHARD_FILES = 2**26, 512
SIZE = 64  # px: the working size proposed for photos; a laptop protects at it


def run(settings: SplitSettings, progress: Progress = SILENT) -> Path:
    """Split the images of `settings.source`; returns the sealed output folder.

    Raises UsageError (no such set, too few images, other parameters in the same place), InputRefused (images),
    IntegrityError (a file that changes meanwhile), ResourceError (disk, a package that is missing).
    """
    output = settings.place()
    shards.refuse_overlap(output, [settings.source])
    found = gather(settings)
    placed = placing.place(settings, found, placing.look(found, progress))
    work = shards.Work.open(output, _parameters(settings, placed), fresh=settings.fresh)
    if work.complete:
        progress.say(f"{output} is up to date")
        return output
    _write(work, placed, progress)
    return work.seal(lambda records: _statement(settings, found, placed, records))


def plan(settings: SplitSettings, progress: Progress = SILENT) -> Plan:
    """What `run` would do: every image is decoded and placed, nothing is written."""
    output = settings.place()
    shards.refuse_overlap(output, [settings.source])
    found = gather(settings)
    placed = placing.place(settings, found, placing.look(found, progress))
    sizes = ", ".join(f"{part} {count}" for part, count in placing.sizes(placed).items())
    return Plan(
        stage="split",
        output=str(output),
        images=len(placed.images),
        classes=len({image.candidate.label for _, image in placed.images} - {None}),
        refused=len(placed.refused),
        shards=len(_shards(placed)),
        output_bytes=sum(image.size for _, image in placed.images),
        free_bytes=shutil.disk_usage(output.resolve().parent).free,
        notes=(sizes, *placing.warnings(found, placed)),
    )


def gather(settings: SplitSettings) -> Found:
    """The candidates of the source, in the form it has. Raises UsageError, ResourceError."""
    if settings.form == "folder":
        _only_for("hf", settings.layers)
        found = candidates.from_folder(settings.source, settings.limit)
    elif settings.form == "hf":
        from ue_audit import hubsets, parquetsets

        columns, _ = resolve(parquetsets.Columns, settings.layers, "split")
        found = hubsets.gather(settings.source, columns, settings.limit)
    else:
        from ue_audit import torchsets  # loads torch

        _only_for("hf", settings.layers)
        found = torchsets.gather(settings.form, settings.source, settings.limit)
    asked = {part: f"{part}_share" for part in found.kept}
    for part, field in asked.items():
        if field in settings.model_fields_set and getattr(settings, field):
            raise UsageError(
                f"{settings.source} has its own {part} images, which are kept as they are", hint=f"leave --{part} out"
            )
    return found


def _only_for(form: str, layers: dict[str, dict[str, Any]]) -> None:
    keys = [key for layer in layers.values() for key in layer]
    if keys:
        raise UsageError(f"split has no setting {keys[0]!r} here", hint=f"--set is for --from {form}: image, label")


# -- writing -----------------------------------------------------------------------------------------------------


def _shards(placed: Placed) -> list[range]:
    """Runs of files that are held and synced together: by their bytes, since nothing is computed."""
    rows = max(1, min(SHARD_FILES, SHARD_BYTES // max(image.size for _, image in placed.images)))
    return [range(start, min(start + rows, len(placed.images))) for start in range(0, len(placed.images), rows)]


def _write(work: shards.Work, placed: Placed, progress: Progress) -> None:
    listed = _shards(placed)
    if work.done:
        progress.say(f"{len(work.done)}/{len(listed)} shards done, resuming")
    progress.start("copying", len(placed.images))
    for number, rows in enumerate(listed):
        if str(number) not in work.done:
            chosen = [placed.images[row] for row in rows]
            files = {f"{part}/{image.path}": _copy(image) for part, image in chosen}
            work.commit(str(number), files, [_record(part, image, number) for part, image in chosen])
        progress.advance(len(rows))
    progress.stop()


def _copy(image: Image) -> bytes:
    """The bytes that were looked at. Raises IntegrityError if the file has changed since."""
    held = image.candidate.data
    try:
        data = held.read_bytes() if isinstance(held, Path) else held()
    except OSError as error:
        raise IntegrityError(f"{image.candidate.origin} was there and cannot be read now: {error.strerror}") from error
    if hashlib.sha256(data).hexdigest() != image.sha256:
        raise IntegrityError(f"{image.candidate.origin} has changed since it was looked at", hint="run it again")
    return data


def _record(part: str, image: Image, shard: int) -> dict[str, Any]:
    own = {"source_sha256": image.sha256} if isinstance(image.candidate.data, Path) else {}
    return {
        "path": f"{part}/{image.path}",
        "part": part,
        "label": image.candidate.label,
        "source": image.candidate.origin,
        "sha256": image.sha256,
        "pixels_sha256": image.pixels_sha256,
        "width": image.width,
        "height": image.height,
        "actions": list(image.actions),
        "shard": shard,
    } | own


# -- manifest ----------------------------------------------------------------------------------------------------


def _parameters(settings: SplitSettings, placed: Placed) -> dict[str, Any]:
    return {
        "stage": "split",
        "form": settings.form,
        "shares": {part: getattr(settings, f"{part}_share") for part in splitting.DRAWN},
        "seed": settings.seed,
        "limit": settings.limit,
        "source": tree_digest((image.candidate.origin, image.sha256) for _, image in placed.images),
    }


def _statement(settings: SplitSettings, found: Found, placed: Placed, records: list[dict[str, Any]]) -> Manifest:
    output, sizes = settings.place(), placing.sizes(placed)
    whole = any(image.candidate.label for _, image in placed.images)
    digest = tree_digest((record["source"], record["sha256"]) for record in records)
    seen = len(records) + len(placed.left_out) + len(placed.refused)
    following: dict[str, Any] = {"source": output} if whole else {"source": output / "train", "method": "cp"}
    shapes = {(image.width, image.height) for part, image in placed.images if part != "raw"}
    if len(shapes) > 1 or any(width != height for width, height in shapes):
        following["size"] = max(8, min(SIZE, *(side for shape in shapes for side in shape)))
    return statement(
        stage="split",
        method=settings.form,
        config={f"{part}_share": getattr(settings, f"{part}_share") for part in splitting.DRAWN},
        settings=settings,
        dependencies=found.parents(output, digest),
        counts={
            "seen": seen,
            "taken": len(records),
            "refused": len(placed.refused),
            "reasons": dict(Counter(refusal.reason for refusal in placed.refused)),
            "left_out": len(placed.left_out),
            "copies": placed.copies,
            "alike": placed.alike,
            "parted": placed.parted,
            "families": placed.families,
            **sizes,
        },
        notes={
            "partial": settings.limit is not None,
            "kept": list(found.kept),
            "actions": dict(Counter(action for _, image in placed.images for action in image.actions)),
        },
        warnings=list(placing.warnings(found, placed)),
        summary={f"{part} images": count for part, count in sizes.items()},
        next=command("protect", ProtectSettings.model_validate(following)),
    )
