"""Stages in order: `run AUDIT.yaml` and `demo`. A stage whose output is up to date says so and is skipped.

    protect or import (each protection) → train-prior (each prior that a purifier needs) → purify (each purifier with
    each of its seeds, on each protected set and, for its ceiling, on the clean one) → evaluate → report

Outputs land in one folder, `<name>.audit/` unless told. A ceiling is purified as its protected set is: where that
depends on the budget and the budgets differ, there is a ceiling for each, the first without a word in its name:

    data.emn.jcdp   data.emn.jcdp.s1   data.uc.jcdp   data.jcdp   data.jcdp.eps16
"""

import importlib
from pathlib import Path
from typing import Any, NamedTuple

from ue_audit import methods, priors, ranks, shards, standing
from ue_audit.audit import AuditSettings, Evaluation, PriorChoice, Protection, Purifier, Source
from ue_audit.config import resolve
from ue_audit.errors import ResourceError, UsageError
from ue_audit.progress import SILENT, Progress, Stage
from ue_audit.rendering.figures import duration
from ue_audit.settings import (
    AdoptSettings,
    EvaluateSettings,
    ImportPriorSettings,
    ProtectSettings,
    PurifySettings,
    ReportSettings,
    Running,
    TrainPriorSettings,
    base_name,
)
from ue_audit.spelling import command

AnySettings = (
    ProtectSettings
    | AdoptSettings
    | TrainPriorSettings
    | ImportPriorSettings
    | PurifySettings
    | EvaluateSettings
    | ReportSettings
)


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
    found, training = priors.gather(audit, folder, shared)

    def treated(source: Path, choice: Protection | Purifier, ending: str = "", **more: Any) -> dict[str, Any]:
        output = folder / f"{base_name(source)}.{choice.label}{ending}"
        chosen = {"source": source, "method": choice.method, "layers": {"file": choice.set}, "output": output}
        return {**shared, **chosen, **more}

    def protect(choice: Protection) -> Step:
        asked = treated(clean, choice)
        if choice.imported is None:
            return Step("protect", ProtectSettings(**asked, encoder=choice.encoder, ratio=choice.ratio))
        kept = {name: value for name, value in asked.items() if name in AdoptSettings.model_fields}
        return Step("import", AdoptSettings(**kept | {"source": choice.imported, "clean": clean}))

    def purify(source: Path, choice: Purifier, ending: str = "", **more: Any) -> Step:
        own = {"prior": found.get(choice.label), "name": choice.name, **more}
        return Step("purify", PurifySettings(**treated(source, choice, ending, **own)))

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
    trains = [Step("train-prior", asked) for asked in training]
    return [*protects, *trains, *purifies, *_endings(audit, folder / base_name(clean), sets, shared)]


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
    from ue_audit.adopt import Allowed
    from ue_audit.diffusion.denoising import ASSUMED_EPS

    if choice.imported is not None:
        allowed = resolve(Allowed, {"file": choice.set}, "import")[0].budget()
        return allowed.limit if allowed.norm == "linf" else ASSUMED_EPS
    chosen = methods.configure("protection", choice.method, {"file": choice.set})
    return methods.limit(chosen.module, chosen.config) if chosen.module.BUDGET == "linf" else ASSUMED_EPS


def _endings(audit: AuditSettings, base: Path, sets: tuple[Path, ...], shared: dict[str, Any]) -> list[Step]:
    """evaluate and report, for all sets at once: the clean images and recipes of all protections are the same."""
    output, report = base.with_name(f"{base.name}.eval"), base.with_name(f"{base.name}.report")
    evaluation = EvaluateSettings(
        folders=sets,
        learners=audit.evaluation.learners,
        seeds=audit.evaluation.seeds,
        max_seeds=audit.evaluation.max_seeds,
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
    """Run one stage; its output. The lock is taken before the stage, which loads torch, is imported.

    Of several processes the first runs it, and tells the others when nothing is left to do.
    """
    with shards.lock(step.settings.place()):
        path: Path = module(step.stage).run(step.settings, progress)
    if ranks.here().world > 1:
        module("together").dismiss()
    return path


def assist(step: Step) -> None:
    """What another process of torchrun does of a stage: what the first one asks for, if it does."""
    if module("together").called():
        module(step.stage).assist(step.settings)


def plan(step: Step, progress: Progress = SILENT) -> Any:
    """The stage's `settings.Plan`; writes nothing."""
    return module(step.stage).plan(step.settings, progress)


def module(stage: str) -> Any:
    """The stage's module; importing it loads torch."""
    name = {"import": "adopt"}.get(stage, stage.replace("-", "_"))
    return importlib.import_module(f"ue_audit.{name}")


def run(todo: list[Step], progress: Progress = SILENT, budget: float | None = None) -> Path:
    """Run the steps in order; the output of the last. `budget`, in seconds, is for all of them and all sittings: what
    the other stages leave of it is the evaluation's, and when it is spent none of those begins. Raises UsageError if
    something is missing that no step makes, ResourceError if the budget ends before the trainings."""
    check_inputs(todo)
    progress.stages([Stage(step.stage, step.settings.place().name, command(*step)) for step in todo])
    spent = 0.0
    for number, step in enumerate(todo):
        if budget is not None and isinstance(step.settings, EvaluateSettings):
            step = step._replace(settings=step.settings.model_copy(update={"budget": max(budget - spent, 0.0)}))
        before = standing.made(step)
        if budget is not None and spent >= budget and before is None and step.stage not in ("evaluate", "report"):
            raise ResourceError(
                f"--budget {duration(budget)} ended before the trainings, after {number} of {len(todo)} stages",
                hint="the same command with a larger --budget, or without, goes on from there",
            )
        progress.stage(number, "running")
        path = perform(step, progress)
        after = standing.made(step)
        progress.stage(number, "up to date" if before == after else "done")
        spent += after.seconds if after is not None else 0.0
    return path


INPUTS = ("source", "raw", "start", "prior", "encoder", "clean", "test", "val", "own")


def check_inputs(todo: list[Step]) -> None:
    """All that an audit needs and no step makes, before the first step begins. Raises UsageError."""
    made = {step.settings.place() for step in todo}
    asked = [getattr(step.settings, name, None) for step in todo for name in INPUTS]
    missing = dict.fromkeys(str(path) for path in asked if path is not None and path not in made and not path.exists())
    if missing:
        raise UsageError("folders or files of the audit are missing", details=[f"nothing at {p}" for p in missing])


def own_folder(audit: AuditSettings) -> list[str]:
    """The five commands of this audit for a reader's own `data/` and `raw/`."""
    source = Source(clean=Path("data"), raw=Path("data/raw"))
    usual = {"prior": PriorChoice(), "evaluation": Evaluation(), "ceilings": False}
    first = {"protections": audit.protections[:1], "purifiers": audit.purifiers[:1]}
    own = audit.model_copy(update={"source": source, **usual, **first})
    return [command(*step) for step in steps(own, Path())]
