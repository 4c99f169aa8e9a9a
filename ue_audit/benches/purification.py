"""Purification with one prior: as shipped and in four other ways, beside the paper's 80 guided evaluations.

The reference is the preset `jcdp-paper`: T_p = 20, 4 passes over every timestep, ancestral. Its guide is LPIPS where
the weights are found; else it is the prior's features at the shipped strength, since the published strength is LPIPS's.
PSNR rewards blur, and a pull to the input rewards the perturbation: read both, and `--part frontier`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ue_audit import distances, methods
from ue_audit.benches import child, recovery, timing
from ue_audit.benches.rows import Goal, Part, Row, compared, ratio_of
from ue_audit.benches.scene import Cast, Scene
from ue_audit.benches.timing import Contender
from ue_audit.imagefolder import to_float, to_uint8
from ue_audit.purifiers import jcdp
from ue_audit.tools import Batch

TITLE = "Purification with the same prior"
REFERENCE, SHIPPED = "80 guided evaluations (jcdp-paper)", "as shipped"
OTHERS: dict[str, dict[str, Any]] = {
    "1 pass x 4 steps": {"passes": 1, "steps": 4},
    "2 passes x 1 step": {"passes": 2, "steps": 1},
    "2 x 2 from t = 36": {"t_purify": 36},
    "2 x 2, dpm": {"sampler": "dpm"},
}
FASTER, PSNR_LOSS, MORE_RESIDUAL = 10.0, 0.2, 0.02  # goals: times, dB, of the perturbation
WARM_IMAGES = 8
PSNR, RHO = "PSNR to clean (dB)", "residual correlation"


def run(scene: Scene) -> Part:
    configs = contenders(scene)
    measured = timing.interleaved(
        {name: contender(scene, config) for name, config in configs.items()},
        scene.amounts.repeats,
        scene.device,
        scene.progress,
    )
    figures = {
        name: {"evaluations": evaluations(configs[name]), **quality(scene.cast, found.result)}
        for name, found in measured.items()
    }
    peaks = {name: _peak(scene, config) for name, config in configs.items()}
    rows = compared(measured, REFERENCE, peaks=peaks, figures=figures)
    guide = configs[REFERENCE].guide
    notes = [
        f"{len(scene.cast.data)} images of {scene.cast.data.size} px, protected by {_method(scene)}; "
        f"prior {scene.prior.name}; guide of all: {guide}.",
        "Pixels alone are timed, without reading and writing; the stage as a whole is among the stages.",
    ]
    goals = [goal for name in (SHIPPED, *OTHERS) for goal in _goals(name, rows)]
    if scene.settings.accuracy:
        trained, more = recovery.run(scene, configs, REFERENCE)
        rows, goals = [*rows, *trained], [*goals, *more]
    return Part(rows, goals, notes)


def contenders(scene: Scene) -> dict[str, Any]:
    """The settings of `jcdp` that are compared, settled."""
    guide = "lpips-alex" if "lpips" in scene.weights else "prior-features"
    shipped = methods.configure("purifier", "jcdp", {"bench": {"guide": guide}}).config
    fields: dict[str, Any] = {"guide": guide}
    if guide == "prior-features":
        fields |= {name: getattr(shipped, name) for name in ("pixel_pull", "perceptual_scale", "perceptual_step")}
        fields |= {"profile": shipped.profile}
    found = {
        REFERENCE: methods.configure("purifier", "jcdp-paper", {"bench": fields}).config,
        SHIPPED: shipped,
        **{name: shipped.model_copy(update=update) for name, update in OTHERS.items()},
    }
    return {name: jcdp.settle(config, scene.tools()) for name, config in found.items()}


def contender(scene: Scene, config: Any) -> Contender:
    """One run purifies the whole cast in one batch."""
    purify: Callable[[Batch], Tensor] = jcdp.build(scene.cast.data, config, scene.tools())
    whole = batch_of(scene.cast)
    few = Batch(whole.x[:WARM_IMAGES], None, whole.rows[:WARM_IMAGES], whole.keys[:WARM_IMAGES])
    return Contender(lambda: purify(whole), len(scene.cast.data), lambda: purify(few))


def batch_of(cast: Cast) -> Batch:
    rows = torch.arange(len(cast.data))
    return Batch(cast.x_ue, cast.data.labels, rows, cast.data.keys)


def evaluations(config: Any) -> int:
    """Of the prior, for one image."""
    return int(config.passes * (config.steps or config.t_purify))


def quality(cast: Cast, x_le: Tensor) -> dict[str, float]:
    """Mean PSNR to clean and residual correlation of what would be written."""
    written = to_float(to_uint8(x_le))
    rho = distances.residual_correlation(cast.x, cast.x_ue, written)
    return {
        PSNR: float(distances.psnr(cast.x, written).mean()),
        RHO: float(rho[rho.isfinite()].mean()),
    }


def _goals(name: str, rows: list[Row]) -> list[Goal]:
    psnr, least = figure(rows, name, PSNR), figure(rows, REFERENCE, PSNR) - PSNR_LOSS
    rho, most = figure(rows, name, RHO), figure(rows, REFERENCE, RHO) + MORE_RESIDUAL
    return [
        Goal(f"{name}: times faster than the reference", FASTER, ratio_of(rows, name)),
        Goal(f"{name}: PSNR to clean, that of the reference - {PSNR_LOSS} dB", least, psnr),
        Goal(f"{name}: residual correlation, that of the reference + {MORE_RESIDUAL}", most, rho, at_least=False),
    ]


def figure(rows: list[Row], what: str, name: str) -> float:
    """A figure of the row called `what`."""
    return float(next(row.figures[name] for row in rows if row.what == what) or 0.0)


def _method(scene: Scene) -> str:
    return "LSP (--quick)" if scene.settings.quick else "the demo's EMN"


def _peak(scene: Scene, config: Any) -> int | None:
    weights: Mapping[str, str] = {name: str(path) for name, path in scene.weights.items()}
    return child.run(
        f"{__name__}:once",
        folder=str(scene.protected(scene.amounts.images)),
        config=config.model_dump(mode="json"),
        weights=weights,
        device=str(scene.device),
    ).peak_memory


def once(folder: str, config: dict[str, Any], weights: dict[str, str], device: str) -> None:
    """Purify a folder in one batch."""
    from pathlib import Path

    from ue_audit import imagefolder
    from ue_audit.tools import Tools

    data = imagefolder.intake(imagefolder.scan(Path(folder))).data
    tools = Tools(device=device, weights={name: Path(path) for name, path in weights.items()})
    purify = jcdp.build(data, jcdp.Config(**config), tools)
    rows = torch.arange(len(data))
    purify(Batch(data.batch(rows), data.labels, rows, list(data.keys)))
