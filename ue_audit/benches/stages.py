"""Every stage as a whole, each run in a process of its own: reading, computing, measuring, writing, sealing.

`protect` has LSP, whose noise costs nothing, so that the floor shows; its plain recipe and that of `verify` do the same
to the files without what makes an output trustworthy. The other stages are held against plain recipes in parts of their
own. Seconds do not hold the start of Python and the loading of torch.
"""

import shutil
from pathlib import Path
from typing import Any

from ue_audit.benches import child
from ue_audit.benches.rows import Part, Row, compared, row
from ue_audit.benches.scene import EPS, Scene
from ue_audit.benches.timing import Measured

TITLE = "The stages"
PLAIN, PERFORMING = "ue_audit.benches.plain_files", "ue_audit.benches.performing"
CHECK = "ue_audit.benches.checking:check"
SAVE, PROTECT = "plain loop: decode, add, save PNG", "protect (LSP)"
LOOK, VERIFY = "plain loop: hash and decode", "scan + verify"


def run(scene: Scene) -> Part:
    limit = scene.amounts.images if scene.settings.quick else None
    protected = scene.protected(limit)
    train = str(scene.images / "train")
    floor = {
        SAVE: lambda out: child.run(f"{PLAIN}:save", source=train, output=out, eps=EPS),
        PROTECT: lambda out: stage("protect", out, source=train, method="lsp", **scene.running),
    }
    checks = {
        LOOK: lambda out: child.run(f"{PLAIN}:look", source=str(protected)),
        VERIFY: lambda out: child.run(CHECK, folder=str(protected)),
    }
    images = len(list((scene.images / "train").glob("*/*")))
    rows = [
        *_in_turns(scene, floor, SAVE, images),
        *_in_turns(scene, checks, LOOK, limit or images),
        *(_alone(scene, name, *given) for name, given in _others(scene, protected, limit or images).items()),
    ]
    return Part(rows, notes=["Evaluate: images x epochs of the trainings of a clean and a protected set, one seed."])


def _others(scene: Scene, protected: Path, images: int) -> dict[str, tuple[str, int, dict[str, Any]]]:
    """Stages without a plain recipe here: name -> stage, images it passes, settings."""
    steps, epochs, purified = scene.amounts.stage_steps, 1, min(images, scene.amounts.images)
    prior = {"raw": str(scene.images / "raw"), "layers": {"bench": {"steps": steps, "check_every": steps}}}
    purify = {"source": str(protected), "prior": str(scene.prior), "limit": purified}
    clean = str(scene.images / "train")
    evaluate = {"folders": [clean, str(protected)], "clean": clean, "test": str(scene.images / "test"), "seeds": 1}
    evaluate |= {"layers": {"bench": {"epochs": epochs}}, "noise_control": False}
    if scene.settings.quick:
        prior["preset"] = "tiny"
        evaluate["limit"] = images
    batch = 16  # of both presets
    return {
        f"train-prior ({steps} steps of {batch})": ("train-prior", steps * batch, prior),
        "purify (jcdp as shipped)": ("purify", purified, purify),
        f"evaluate ({epochs} epoch)": ("evaluate", 2 * epochs * images, evaluate),
    }


def _in_turns(scene: Scene, contenders: dict[str, Any], baseline: str, images: int) -> list[Row]:
    ended: dict[str, list[child.Ended]] = {name: [] for name in contenders}
    scene.progress.start(", ".join(contenders), scene.amounts.repeats, "rounds")
    for number in range(scene.amounts.repeats):
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            ended[name].append(_clean(scene, contenders[name]))
        scene.progress.advance()
    scene.progress.stop()
    measured = {name: Measured([one.seconds for one in found], images) for name, found in ended.items()}
    return compared(measured, baseline, peaks={name: _most(found) for name, found in ended.items()})


def _alone(scene: Scene, what: str, name: str, images: int, settings: dict[str, Any]) -> Row:
    scene.progress.start(what, 1, "runs")
    ended = _clean(scene, lambda out: stage(name, out, **settings, **scene.running))
    scene.progress.advance()
    scene.progress.stop()
    return row(what, Measured([ended.seconds], images), peak_memory=ended.peak_memory)


def _clean(scene: Scene, contender: Any) -> child.Ended:
    """One run with an output of its own, which is removed."""
    out = scene.place / "output"
    try:
        found: child.Ended = contender(str(out))
        return found
    finally:
        shutil.rmtree(out, ignore_errors=True)
        for rest in scene.place.glob("output*"):
            shutil.rmtree(rest) if rest.is_dir() else rest.unlink()


def _most(found: list[child.Ended]) -> int | None:
    return max((one.peak_memory for one in found if one.peak_memory is not None), default=None)


def stage(name: str, output: str, device: str, **settings: Any) -> child.Ended:
    """A stage in a process of its own."""
    return child.run(f"{PERFORMING}:perform", name=name, settings={**settings, "output": output}, device=device)
