"""The frontier of purification: where a pass starts, passes, steps, sampler and guidance, all with one prior.

Every setting is one row with its time, PSNR to clean and residual correlation; a star marks those that no other beats
in all three. Accuracy is not among them: PSNR rewards blur, and only trainings tell (`--part purification --accuracy`).
"""

from dataclasses import replace
from itertools import product
from typing import Any

from ue_audit.benches import timing
from ue_audit.benches.purification import PSNR, REFERENCE, RHO, SHIPPED, contender, contenders, evaluations, quality
from ue_audit.benches.rows import Part, Row, compared
from ue_audit.benches.scene import Scene
from ue_audit.benches.timing import Measured
from ue_audit.diffusion.prior import load_prior

TITLE = "The frontier of purification"
TIMES = (20, 36, 60, 100)
CHAINS = ((1, 1), (1, 2), (1, 4), (1, 8), (2, 1), (2, 2), (4, 1), (4, 2))  # passes x steps
SAMPLERS = ("ddim", "ancestral", "dpm")
GUIDANCE = ("joint", "none")
QUICK = 2  # of each of the above, with --quick
STAR = "on the frontier"


def run(scene: Scene) -> Part:
    configs, images = grid(scene), len(scene.cast.data)
    measured: dict[str, Measured] = {}
    figures: dict[str, dict[str, float | None]] = {}
    scene.progress.start("settings", len(configs), "settings")
    for name, config in configs.items():
        one = contender(scene, config)
        (one.warm or one.run)()
        seconds, x_le = timing.timed(one.run, scene.device)
        measured[name] = Measured([seconds], one.images)
        found = quality(scene.cast, x_le)
        figures[name] = {"t": config.t_purify, "evaluations": evaluations(config), **found}
        scene.progress.advance(psnr=found[PSNR])
    scene.progress.stop()
    rows = compared(measured, REFERENCE, figures=figures)
    best = undominated(rows)
    rows = [replace(row, figures={**row.figures, STAR: 1 if row in best else None}) for row in rows]
    rows.sort(key=lambda row: row.seconds or 0.0)
    kept = f"t from {TIMES} as far as the prior goes, {images} images, one run of each setting."
    return Part(rows, notes=[kept])


def grid(scene: Scene) -> dict[str, Any]:
    """Name -> settled configuration of `jcdp`: the reference, the shipped one, and every combination."""
    given = contenders(scene)
    shipped, t_max = given[SHIPPED], load_prior(scene.prior).t_max
    axes: list[Any] = [[t for t in TIMES if t <= t_max], CHAINS, SAMPLERS, GUIDANCE]
    if scene.settings.quick:
        axes = [axis[:QUICK] for axis in axes]
    found = {REFERENCE: given[REFERENCE], SHIPPED: shipped}
    for t, (passes, steps), sampler, guidance in product(*axes):
        update = {"t_purify": t, "passes": passes, "steps": steps, "sampler": sampler, "guidance": guidance}
        found[f"{passes} x {steps} from {t}, {sampler}, {guidance}"] = shipped.model_copy(update=update)
    return found


def undominated(rows: list[Row]) -> list[Row]:
    """Those that no other is at least as good as in time, PSNR and residual correlation, and better in one."""
    costs = [(row.seconds or 0.0, -float(row.figures[PSNR] or 0), float(row.figures[RHO] or 0)) for row in rows]
    return [
        row
        for row, mine in zip(rows, costs, strict=True)
        if not any(theirs != mine and all(a <= b for a, b in zip(theirs, mine, strict=True)) for theirs in costs)
    ]
