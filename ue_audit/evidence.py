"""What an evaluation says beside accuracies: fidelity, overlap of the sets, where the prior comes from, commands."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ue_audit import manifest, overlaps
from ue_audit.manifest import Manifest
from ue_audit.spelling import made_by

if TYPE_CHECKING:
    from ue_audit.trainings import Exam

FIGURES = (
    "linf", "l2", "psnr", "psnr_clean", "ssim_clean", "lpips_clean", "ssim_protected_clean", "lpips_protected_clean",
    "residual_correlation", "residual_low", "residual_mid", "residual_high",
)  # fmt: skip


def gather(exam: "Exam") -> dict[str, Any]:
    """The notes of an evaluation's manifest."""
    ours = {name: path for name, path in exam.paths.items() if manifest.find(path) is not None}
    priors = trained_on(ours.values())
    sets = _sets(exam, priors.values())
    return {
        "fidelity": {name: fidelity(path) for name, path in ours.items()},
        "overlap": overlaps.exact(sets),
        "near": overlaps.near(sets),
        "not_compared": overlaps.not_compared((place.name, notes) for place, notes in priors.items()),
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


def _sets(exam: "Exam", priors: Iterable[dict[str, Any]]) -> dict[str, overlaps.Set]:
    """Clean, test and validation images, the attacker's own ones, and those of the priors as far as they are known."""
    found = {"clean": exam.cells[0].data, "test": exam.test, "validation": exam.val}
    if exam.own is not None:
        found["own"] = exam.own
    raw = overlaps.raw_set(priors)
    return {name: overlaps.of(data) for name, data in found.items()} | ({"prior": raw} if raw is not None else {})


def trained_on(folders: Iterable[Path]) -> dict[Path, dict[str, Any]]:
    """The notes of every prior behind these folders and of those that it was fine-tuned from, by place.

    They are empty where the manifest is gone or is that of another prior.
    """
    found: dict[Path, dict[str, Any]] = {}
    waiting = [(folder, "prior") for folder in folders]
    while waiting:
        output, role = waiting.pop(0)
        made = manifest.find(output)
        dependency = made.dependency(role) if made is not None else None
        if dependency is None:
            continue
        place = manifest.locate(output, dependency).resolve()
        sidecar = manifest.find(place) if place.exists() else None
        known = sidecar is not None and sidecar.sha256 == dependency.digest.get("sha256")
        if place not in found:
            waiting += [(place, "start")] if known else []
            found[place] = sidecar.notes if sidecar is not None and known else {}
    return found


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
    } | {key: sidecar.notes[key] for key in ("training_data",) if key in sidecar.notes}


def commands(paths: list[Path]) -> list[str]:
    """The exact commands behind these folders and their priors, each once, in the order they were finished."""
    found = [m for path in paths for m in (manifest.find(path), (prior_manifest(path) or (None, None))[1]) if m]
    ordered = sorted(found, key=lambda m: m.run.finished)
    return list(dict.fromkeys(made_by(m.stage, m.settings) for m in ordered))
