"""Stages in order: `run AUDIT.yaml` and `demo`. A stage whose output is up to date says so and is skipped.

    protect (each protection) → train-prior → purify (each purifier with each of its seeds, on each protected set and,
    for its ceiling, on the clean one) → evaluate → report

Outputs land in one folder, `<name>.audit/` unless told. A ceiling is purified as its protected set is: where that
depends on the budget and the budgets differ, there is a ceiling for each, the first without a word in its name:

    data.emn.jcdp   data.emn.jcdp.s1   data.uc.jcdp   data.jcdp   data.jcdp.eps16
"""

import importlib
from pathlib import Path
from typing import Any, NamedTuple

from ue_audit import manifest, methods, shards
from ue_audit.audit import AuditSettings, Evaluation, PriorChoice, Protection, Purifier, Source
from ue_audit.config import Config, load_preset, resolve
from ue_audit.errors import IntegrityError, UsageError
from ue_audit.progress import SILENT, Progress
from ue_audit.settings import (
    AdoptSettings,
    EvaluateSettings,
    ProtectSettings,
    PurifySettings,
    ReportSettings,
    Running,
    TrainPriorSettings,
    base_name,
    command,
)

AnySettings = ProtectSettings | AdoptSettings | TrainPriorSettings | PurifySettings | EvaluateSettings | ReportSettings


class Step(NamedTuple):
    """One stage of an audit, ready to run."""

    stage: str
    settings: AnySettings


def steps(audit: AuditSettings, folder: Path) -> list[Step]:
    """Every stage of the audit in order, its output in `folder`. Raises UsageError if a folder is not named."""
    clean = audit.source.clean
    if clean is None:
        raise UsageError("the audit names no clean images", hint="add `source: {clean: FOLDER}`, or name it")
    shared: dict[str, Any] = {name: getattr(audit, name) for name in Running.model_fields}
    shared["size"] = audit.size
    prior, training = _prior(audit, folder, shared)

    def treated(source: Path, choice: Protection | Purifier, ending: str = "", **more: Any) -> dict[str, Any]:
        output = folder / f"{base_name(source)}.{choice.label}{ending}"
        chosen = {"source": source, "method": choice.method, "layers": {"file": choice.set}, "output": output}
        return {**shared, **chosen, **more}

    def protect(choice: Protection) -> Step:
        return Step(
            "protect", ProtectSettings(**treated(clean, choice, encoder=choice.encoder, ratio=choice.ratio))
        )

    def purify(source: Path, choice: Purifier, ending: str = "", **more: Any) -> Step:
        return Step("purify", PurifySettings(**treated(source, choice, ending, prior=prior, **more)))

    protects = [protect(choice) for choice in audit.protections]
    protected = [step.settings.place() for step in protects]
    purifies = [
        purify(source, choice, f".s{k}" if k else "", seed=audit.seed + k)
        for source in protected
        for choice in audit.purifiers
        for k in range(choice.seeds)
    ]
    if audit.ceilings:
        purifies += [
            purify(clean, choice, ending, like=like)
            for choice in audit.purifiers
            for ending, like in _ceilings(choice, audit.protections, protected)
        ]
    sets = (clean, *protected, *(step.settings.place() for step in purifies))
    return [*protects, *training, *purifies, *_endings(audit, folder / base_name(clean), sets, shared)]


def _ceilings(
    choice: Purifier, protections: tuple[Protection, ...], places: list[Path]
) -> list[tuple[str, Path]]:
    """The ceilings of a purifier: the ending of each one's name, and the protected set that it is purified like.

    One is enough for protections of one budget, or for a purifier that does not ask. Several are asked for theirs.
    """
    if len(protections) == 1:
        return [("", places[0])]
    chosen = methods.configure("purifier", choice.method, {"file": choice.set})  # loads torch
    follows = getattr(chosen.module, "follows_eps", None)
    if follows is None or not follows(chosen.config):
        return [("", places[0])]
    like: dict[float, Path] = {}
    for protection, place in zip(protections, places, strict=True):
        like.setdefault(_eps(protection), place)
    return [(f".eps{255 * eps:.3g}" if k else "", place) for k, (eps, place) in enumerate(like.items())]


def _eps(choice: Protection) -> float:
    """The linf budget that a protection will have, or the one that is assumed where there is none."""
    from ue_audit.diffusion.denoising import ASSUMED_EPS

    chosen = methods.configure("protection", choice.method, {"file": choice.set})
    return methods.limit(chosen.module, chosen.config) if chosen.module.BUDGET == "linf" else ASSUMED_EPS


def _prior(audit: AuditSettings, folder: Path, shared: dict[str, Any]) -> tuple[Path, list[Step]]:
    """Where the prior is or will be, and the step that trains it unless it is there."""
    if audit.prior.file is not None:
        return audit.prior.file, []
    raw = audit.source.raw
    if raw is None:
        raise UsageError(
            "the audit names neither raw images nor a prior",
            hint="add `source: {raw: FOLDER}` or `prior: {file: FILE}`, or --set source.raw=FOLDER",
        )
    output = folder / f"{base_name(raw)}.prior.ckpt"
    layers = {"file": audit.prior.set}
    settings = TrainPriorSettings(raw=raw, preset=audit.prior.preset, output=output, layers=layers, **shared)
    return output, [Step("train-prior", settings)]


def _endings(audit: AuditSettings, base: Path, sets: tuple[Path, ...], shared: dict[str, Any]) -> list[Step]:
    """evaluate and report, for all sets at once: the clean images and recipes of all protections are the same."""
    output, report = base.with_name(f"{base.name}.eval"), base.with_name(f"{base.name}.report")
    evaluation = EvaluateSettings(
        folders=sets,
        learners=audit.evaluation.learners,
        seeds=audit.evaluation.seeds,
        cross=audit.evaluation.cross,
        encoder=audit.evaluation.encoder,
        noise_control=audit.evaluation.noise_control,
        layers={"file": audit.evaluation.set},
        test=audit.source.test,
        val=audit.source.val,
        own=audit.source.own,
        output=output,
        **shared,
    )
    ending = ReportSettings(evaluation=output, output=report, images=audit.images, fresh=audit.fresh)
    return [Step("evaluate", evaluation), Step("report", ending)]


# -- running -----------------------------------------------------------------------------------------------


def perform(step: Step, progress: Progress = SILENT) -> Path:
    """Run one stage; its output. The lock is taken before the stage, which loads torch, is imported."""
    with shards.lock(step.settings.place()):
        path: Path = module(step.stage).run(step.settings, progress)
    return path


def plan(step: Step, progress: Progress = SILENT) -> Any:
    """The stage's `settings.Plan`; writes nothing."""
    return module(step.stage).plan(step.settings, progress)


def module(stage: str) -> Any:
    """The stage's module; importing it loads torch."""
    name = {"import": "adopt"}.get(stage, stage.replace("-", "_"))
    return importlib.import_module(f"ue_audit.{name}")


def run(todo: list[Step], progress: Progress = SILENT) -> Path:
    """Run the steps in order; the output of the last."""
    for number, step in enumerate(todo, 1):
        progress.say(f"[{number}/{len(todo)}] {command(*step)}")
        path = perform(step, progress)
    return path


def state(step: Step) -> str:
    """"complete", "begun" or "to do", judged by what lies at the step's place."""
    try:
        return "to do" if manifest.find(step.settings.place()) is None else "complete"
    except IntegrityError:
        return "begun"


def resolved(step: Step) -> list[tuple[str, Config, dict[str, str]]]:
    """The stage's settings and its method's configuration, with the origin of each value. Loads the method."""
    given = dict.fromkeys(step.settings.model_fields_set, "flag")
    layers = getattr(step.settings, "layers", {})
    found: list[tuple[str, Config, dict[str, str]]] = [("settings", step.settings, given)]
    if isinstance(step.settings, TrainPriorSettings):
        from ue_audit.diffusion.prior import PriorConfig  # loads torch

        preset = {"preset": load_preset(step.stage, step.settings.preset)}
        return [*found, ("prior", *resolve(PriorConfig, {**preset, **layers}, step.stage))]
    if isinstance(step.settings, AdoptSettings):
        from ue_audit.adopt import Allowed

        return [*found, ("budget", *resolve(Allowed, layers, step.stage))]
    if isinstance(step.settings, EvaluateSettings):
        from ue_audit import lineup

        learners = lineup.gather(step.settings.learners, layers)
        return [*found, *((f"learner {own.label}", own.chosen.config, own.chosen.origins) for own in learners)]
    for kind in (kind for kind, stage in methods.STAGE.items() if stage == step.stage):
        chosen = methods.configure(kind, getattr(step.settings, "method", ""), layers)
        found.append((f"{kind} {chosen.name}", chosen.config, chosen.origins))
    return found


def own_folder(audit: AuditSettings) -> list[str]:
    """The five commands of this audit for a reader's own `data/` and `raw/`."""
    source = Source(clean=Path("data"), raw=Path("raw"))
    usual = {"prior": PriorChoice(), "evaluation": Evaluation(), "ceilings": False}
    first = {"protections": audit.protections[:1], "purifiers": audit.purifiers[:1]}
    own = audit.model_copy(update={"source": source, **usual, **first})
    return [command(*step) for step in steps(own, Path())]
