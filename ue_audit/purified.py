"""What `purify` says of a purified set: its manifest, its parents, its figures in a few numbers, the next command."""

from pathlib import Path
from typing import Any

import numpy as np

from ue_audit import manifest, methods
from ue_audit.imagefolder import Intake
from ue_audit.settings import PurifySettings
from ue_audit.spelling import pasted
from ue_audit.statement import Manifest, RunDetails, statement

SHOWN = {
    "psnr_clean": "mean PSNR to clean (dB)",
    "residual_correlation": "residual correlation",
    "psnr": "mean PSNR to the input (dB)",
}


def account(
    settings: PurifySettings,
    chosen: methods.Chosen,
    source: Path,
    taken: Intake,
    records: list[dict[str, Any]],
    notes: dict[str, Any],
    weights: dict[str, Path],
    run: RunDetails,
) -> Manifest:
    """The manifest of a whole set, or of a part: then its status is "partial", and its settings say which it is."""
    output, part = settings.place(), settings.shard is not None
    return statement(
        stage="purify",
        method=chosen.name,
        status="partial" if part else "complete",
        config=chosen.config.model_dump(mode="json"),
        origins=chosen.origins,
        settings=settings,
        dependencies=_parents(source, taken, weights, settings),
        counts=taken.counts() | {"written": len(records)},
        notes=notes | {"partial": settings.limit is not None},
        warnings=[*notes.get("warnings", []), *taken.warnings()],
        summary=summary(records),
        next=pasted("ue-audit", "merge", output) if part else following(source, output, settings.size),
        run=run,
    )


def following(source: Path, output: Path, size: int | None) -> str:
    """The command to go on with."""
    return pasted("ue-audit", "evaluate", source, output, size=size)


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """How many images, and means of two figures that were measured."""
    means: dict[str, float | None] = {}
    for figure, label in SHOWN.items():
        values = [r[figure] for r in records if r.get(figure) is not None]
        if values:
            means[label] = round(float(np.mean(values)), 3)
    return {"images purified": len(records)} | dict(list(means.items())[:2])


def _parents(
    source: Path, taken: Intake, weights: dict[str, Path], settings: PurifySettings
) -> list[manifest.Dependency]:
    """A protected set by its manifest, or the owner's clean images (which makes this a ceiling); prior and weights."""
    output = settings.place()
    files = [
        manifest.dependency(name, path, output=output, digest=manifest.file_sha256(path))
        for name, path in weights.items()
    ]
    if manifest.find(source) is not None:
        return [manifest.dependency("protected", source, output=output), *files]
    skipped = tuple(refusal.path for refusal in taken.refused)
    used = {"flat": not taken.data.classes, "limit": settings.limit, "skipped": skipped}
    digest = manifest.source_digest(taken.sources)
    clean = manifest.dependency("source", source, output=output, digest=digest, **used)
    return [clean, clean.model_copy(update={"name": "clean"}), *files]
