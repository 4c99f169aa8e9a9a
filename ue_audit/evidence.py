"""What an evaluation says beside accuracies: fidelity, overlap of the sets, where the prior comes from, commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ue_audit import cells, manifest
from ue_audit.manifest import Manifest
from ue_audit.settings import made_by

if TYPE_CHECKING:
    from ue_audit.trainings import Exam

FIGURES = (
    "linf", "l2", "psnr", "psnr_clean", "ssim_clean", "lpips_clean", "ssim_protected_clean", "lpips_protected_clean",
    "residual_correlation", "residual_low", "residual_mid", "residual_high",
)  # fmt: skip


def gather(exam: "Exam") -> dict[str, Any]:
    """The notes of an evaluation's manifest."""
    ours = {name: path for name, path in exam.paths.items() if manifest.find(path) is not None}
    return {
        "fidelity": {name: fidelity(path) for name, path in ours.items()},
        "overlap": _overlap(exam, ours),
        "prior": next((p for path in ours.values() if (p := prior_of(path))), None),
        "commands": commands(list(ours.values())),
    }


def fidelity(path: Path) -> dict[str, dict[str, float]]:
    """Mean, 5th and 95th percentile of every figure the folder's records carry; absent ones are left out."""
    records = manifest.records(path)
    found: dict[str, dict[str, float]] = {}
    for figure in FIGURES:
        values = [r[figure] for r in records if r.get(figure) is not None]
        if values:
            low, high = np.percentile(values, [5, 95])
            found[figure] = {"mean": float(np.mean(values)), "p5": float(low), "p95": float(high), "n": len(values)}
    return found


def _overlap(exam: "Exam", ours: dict[str, Path]) -> dict[str, int]:
    """Exact duplicates between clean, test, validation and the prior's images, by pixels at the working size."""
    named = {
        "clean": cells.pixel_digests(exam.cells[0].data),
        "test": cells.pixel_digests(exam.test),
        "validation": cells.pixel_digests(exam.val),
    }
    if exam.own is not None:
        named["own"] = cells.pixel_digests(exam.own)
    for path in ours.values():
        found = prior_manifest(path)
        if found is not None and found[1].notes.get("raw_pixels"):
            named["prior"] = set(found[1].notes["raw_pixels"])
    return cells.overlap(named)


def prior_manifest(path: Path) -> tuple[Path, Manifest] | None:
    """The prior a folder was purified with, and its manifest if it is there."""
    found = manifest.find(path)
    for dependency in found.dependencies if found else []:
        if dependency.name == "prior":
            place = manifest.locate(path, dependency)
            sidecar = manifest.find(place) if place.exists() else None
            return (place, sidecar) if sidecar is not None else None
    return None


def prior_of(path: Path) -> dict[str, Any] | None:
    """What the report says of the prior: its images, network, figures of merit and cost."""
    found = prior_manifest(path)
    if found is None:
        return None
    place, sidecar = found
    return {
        "name": place.name,
        "images": sidecar.counts.get("images"),
        "figures": sidecar.notes.get("figures"),
        "config": sidecar.config,
        "start": sidecar.notes.get("start"),
    }


def commands(paths: list[Path]) -> list[str]:
    """The exact commands behind these folders and their priors, each once, in the order they were finished."""
    found = [m for path in paths for m in (manifest.find(path), (prior_manifest(path) or (None, None))[1]) if m]
    ordered = sorted(found, key=lambda m: m.run.finished)
    return list(dict.fromkeys(made_by(m.stage, m.settings) for m in ordered))
