"""The prior: how many steps a held-out denoising PSNR takes, band-limited against all 1,000 timesteps.

Three priors of one network, batch and number of steps, judged on the same held-out images at the same noise levels (t =
12, 21, 37). The seconds of a step are measured apart, since Adam's costs less than Muon's. The faster prior is read off
at the first measurement that reaches what the slower one ends with, in the middle of its schedule, where its rate has
not come down: that counts against it. `recipe of ddpm-cifar` is its objective, optimiser and rates.
"""

from statistics import median
from typing import Any

from ue_audit import imagefolder
from ue_audit.benches import timing
from ue_audit.benches.rows import Goal, Part, Row
from ue_audit.benches.rows import row as timed_row
from ue_audit.benches.scene import Scene
from ue_audit.benches.timing import Contender
from ue_audit.config import load_preset, overlay
from ue_audit.diffusion.prior import PriorConfig, train
from ue_audit.imagefolder import ImageData
from ue_audit.tools import Tools

TITLE = "Training a prior"
LEARNT = 0.5  # dB above an untrained prior
GOAL = 5.0  # times fewer seconds than on all timesteps
SHIPPED = "t = 1..{t_max}, as shipped"
ALL = "t = 1..1000, else the same"
PUBLISHED = "t = 1..1000, recipe of ddpm-cifar"
OF_THE_RUN = ("network", "steps", "batch", "ema_half_life", "check_every", "patience")  # not taken from ddpm-cifar
CHECKS, TIMED_STEPS = 40, 10
ENDLESS, ONE_IMAGE = 10**6, 1e-9  # no measurement on the way, and of one image at the end: steps are timed

Curve = list[tuple[int, float]]
"""Steps and the mean PSNR of the three noise levels."""


def run(scene: Scene) -> Part:
    steps = scene.amounts.prior_steps
    data = imagefolder.intake(imagefolder.scan(scene.images / "raw", flat=True)).data
    configs = contenders("tiny" if scene.settings.quick else "small", steps)
    seconds = timing.interleaved(
        {name: _timed(data, config, scene) for name, config in configs.items()},
        scene.amounts.repeats,
        scene.device,
        scene.progress,
    )
    curves = {name: curve(data, config, scene) for name, config in configs.items()}
    shipped = next(iter(configs))
    rows = []
    for name, points in curves.items():
        beside = None if name == shipped else (shipped, seconds[shipped])
        quarters = {f"dB at step {step}": psnr for step, psnr in points[CHECKS // 4 - 1 :: max(1, CHECKS // 4)]}
        rows.append(timed_row(f"{name}: {TIMED_STEPS} steps", seconds[name], beside=beside, figures=quarters))
    [(_, floor)] = curve(data, configs[shipped].model_copy(update={"steps": 1}), scene)
    others = [name for name in curves if name != shipped]
    step = {name: median(found.seconds) for name, found in seconds.items()}
    ratios = {name: ratio(curves[shipped], curves[name], floor, step[name] / step[shipped]) for name in others}
    rows += [_reached(name, curves, shipped, rows[0], ratios[name]) for name in others]
    goals = [Goal(f"times fewer seconds than {name}", GOAL, found) for name, found in ratios.items()]
    note = f"{len(data)} raw images, {steps} steps of {configs[shipped].batch}; dB: mean PSNR of held-out x0, n = 1."
    untrained = f"An untrained prior has {floor:.1f} dB; what ends within {LEARNT} dB of that has no ratio."
    return Part(rows, goals, [note, untrained])


def contenders(preset: str, steps: int) -> dict[str, PriorConfig]:
    common = {"steps": steps, "check_every": max(1, steps // CHECKS), "patience": ENDLESS}
    ours = PriorConfig(**overlay(load_preset("train-prior", preset), common))
    published = {k: v for k, v in load_preset("train-prior", "ddpm-cifar").items() if k not in OF_THE_RUN}
    everything = {"t_max": ours.T}
    return {
        SHIPPED.format(t_max=ours.t_max): ours,
        ALL: ours.model_copy(update=everything),
        PUBLISHED: PriorConfig(**overlay(ours.model_dump(), published | everything)),
    }


def curve(data: ImageData, config: PriorConfig, scene: Scene) -> Curve:
    tools = Tools(device=scene.device, seed=scene.settings.seed, progress=scene.progress)
    train(data, config, tools)
    return [(int(point["step"]), _mean(point)) for point in tools.notes["curve"]]


def first_at(points: Curve, psnr: float) -> int | None:
    """The first step at which the curve has this PSNR; None if it never does."""
    return next((step for step, found in points if found >= psnr), None)


def ratio(ours: Curve, other: Curve, floor: float, step: float = 1.0) -> float | None:
    """How many times faster ours gets to what the other ends with, whose steps take `step` times as long as ours.

    None if ours never gets there, or if the other learnt nothing: it ends near `floor`, what an untrained prior has.
    """
    steps, psnr = other[-1]
    reached = first_at(ours, psnr) if psnr > floor + LEARNT else None
    return None if reached is None else step * steps / reached


def _reached(name: str, curves: dict[str, Curve], shipped: str, step: Row, found: float | None) -> Row:
    """The seconds that the shipped prior takes to what another ends with."""
    steps, psnr = curves[name][-1]
    reached = first_at(curves[shipped], psnr)
    seconds = None if reached is None or step.seconds is None else reached * step.seconds / TIMED_STEPS
    return Row(
        what=f"to {psnr:.1f} dB, the end of: {name}",
        seconds=seconds,
        n=1,
        baseline=name,
        ratio=found,
        figures={"steps": reached, "steps of the baseline": steps},
    )


def _timed(data: ImageData, config: PriorConfig, scene: Scene) -> Contender:
    few = config.model_copy(update={"steps": TIMED_STEPS, "check_every": ENDLESS, "held_out": ONE_IMAGE})
    return Contender(lambda: train(data, few, Tools(device=scene.device, seed=scene.settings.seed)))


def _mean(point: dict[str, Any]) -> float:
    values = [value for key, value in point.items() if key != "step"]
    return float(sum(values) / len(values))
