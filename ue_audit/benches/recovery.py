"""What speed costs in accuracy: the demo's images purified by each setting, and trainings on what comes of it."""

from statistics import mean
from typing import Any

from ue_audit import evaluate, manifest, purify
from ue_audit.benches.rows import Goal, Row
from ue_audit.benches.scene import Scene
from ue_audit.settings import EvaluateSettings, PurifySettings

LOST = 0.02  # of accuracy, at most, beside the reference


def run(scene: Scene, configs: dict[str, Any], reference: str) -> tuple[list[Row], list[Goal]]:
    """A row for each setting of `jcdp` with the accuracies on clean test images, one for each training seed."""
    limit = scene.amounts.images if scene.settings.quick else None
    protected, train = scene.protected(limit), scene.images / "train"
    folders = {name: scene.place / f"{protected.name}.purified{number}" for number, name in enumerate(configs)}
    for name, folder in folders.items():
        scene.progress.say(f"purifying all images: {name}")
        fields = configs[name].model_dump(mode="json")
        scene.stage(
            purify,
            PurifySettings(
                source=protected, prior=scene.prior, output=folder, layers={"bench": fields}, **scene.running
            ),
        )
    asked = EvaluateSettings(
        folders=(train, protected, *folders.values()),
        clean=train,
        test=scene.images / "test",
        val=scene.images / "val",
        seeds=scene.amounts.seeds,
        layers={"bench": {"epochs": 1} if scene.settings.quick else {}},
        limit=limit,
        noise_control=False,
        output=scene.place / f"{protected.name}.eval",
        **scene.running,
    )
    records = manifest.records(scene.stage(evaluate, asked))
    found = {
        name: [record["last"] for record in records if record["cell"]["folder"] == folder.name]
        for name, folder in {"clean": train, "protected": protected, **folders}.items()
    }
    rows = [Row(f"accuracy: {name}", n=len(scores), figures=_shown(scores)) for name, scores in found.items()]
    least = mean(found[reference]) - LOST
    goals = [
        Goal(f"{name}: accuracy, that of the reference - {100 * LOST:g} points", least, mean(found[name]))
        for name in configs
        if name != reference
    ]
    return rows, goals


def _shown(scores: list[float]) -> dict[str, float | None]:
    return {"mean (%)": 100 * mean(scores), "lowest": 100 * min(scores), "highest": 100 * max(scores)}
