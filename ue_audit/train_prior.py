"""train-prior: raw, unlabelled images -> one safetensors file with its provenance, and a sidecar manifest."""

import shutil
import time
from pathlib import Path
from typing import Any

from ue_audit import imagefolder, manifest, overlaps, shards, together
from ue_audit.config import load_preset, resolve
from ue_audit.diffusion import prior as priors
from ue_audit.filework import FileWork
from ue_audit.imagefolder import Intake
from ue_audit.progress import SILENT, Progress
from ue_audit.settings import Plan, TrainPriorSettings
from ue_audit.spelling import pasted
from ue_audit.statement import Manifest, RunDetails, statement
from ue_audit.tools import Tools, pick_device


def run(settings: TrainPriorSettings, progress: Progress = SILENT) -> Path:
    """Train (or continue, or fine-tune from `settings.start`) a prior; returns the sealed file.

    Raises InputRefused, UsageError (settings), IntegrityError (the prior to start from), ResourceError.
    """
    output = settings.place()
    shards.refuse_overlap(output, [settings.raw])
    config, origins = _config(settings)
    device = pick_device(settings.device)
    taken = _taken(settings, progress)
    work = FileWork.open(output, _parameters(settings, config, taken), fresh=settings.fresh)
    if work.complete:
        progress.say(f"{output} is up to date")
        return output
    together.call()
    start = priors.load_prior(settings.start) if settings.start else None
    with together.in_step(device) as peers:
        known: dict[str, Any] = {"device": device, "seed": settings.seed, "progress": progress, "peers": peers}
        tools = Tools(**known, work=work.scratch, saved=work.tick)
        prior = priors.train(taken.data, config, tools, start)
    inherited = {key: value for key, value in (start.provenance if start else {}).items() if key == "training_data"}
    said = {"raw": manifest.source_digest(taken.sources), "images": len(taken.data)} | inherited
    for key, value in inherited.items():
        tools.note(key, value)  # unknown of the prior it goes on from
    return work.finish(prior.to_bytes(said), _statement(settings, config, origins, taken, prior, tools))


def assist(settings: TrainPriorSettings) -> None:
    """Another process of torchrun: its rows of every batch, in step with the leader, which is in `run`."""
    config, _ = _config(settings)
    device = pick_device(settings.device)
    taken = _taken(settings, SILENT)
    start = priors.load_prior(settings.start) if settings.start else None
    with together.in_step(device) as peers:
        scratch = shards.scratch(settings.place())
        priors.train(taken.data, config, Tools(device=device, seed=settings.seed, work=scratch, peers=peers), start)


def plan(settings: TrainPriorSettings, progress: Progress = SILENT) -> Plan:
    """What `run` would do, with a time estimate from a few timed steps; writes nothing."""
    config, _ = _config(settings)
    taken = imagefolder.take_in(settings.raw, settings, flat=True, progress=progress)
    few = config.model_copy(update={"steps": 5, "check_every": 10**9})
    start = time.monotonic()
    timed = priors.train(taken.data, few, Tools(device=pick_device(settings.device), seed=settings.seed), None)
    seconds = time.monotonic() - start
    return Plan(
        stage="train-prior",
        output=str(settings.place()),
        images=len(taken.data),
        refused=len(taken.refused),
        output_bytes=4 * sum(weight.numel() for weight in timed.network.parameters()),
        free_bytes=shutil.disk_usage(settings.place().resolve().parent).free,
        seconds_estimate=seconds / few.steps * config.steps,
        notes=(f"{config.steps} steps of {config.batch} images, timesteps 1..{config.t_max}",),
    )


def _taken(settings: TrainPriorSettings, progress: Progress) -> Intake:
    room = imagefolder.spill(settings.cache or settings.place().parent)
    return imagefolder.take_in(settings.raw, settings, flat=True, array=room, progress=progress)


def _config(settings: TrainPriorSettings) -> tuple[priors.PriorConfig, dict[str, str]]:
    preset = load_preset("train-prior", settings.preset)
    return resolve(priors.PriorConfig, {"preset": preset, **settings.layers}, f"train-prior {settings.preset!r}")


def _parameters(settings: TrainPriorSettings, config: priors.PriorConfig, taken: Intake) -> dict[str, Any]:
    start = manifest.file_sha256(settings.start) if settings.start else None
    return {
        "stage": "train-prior",
        "config": config.model_dump(mode="json"),
        "seed": settings.seed,
        "size": taken.data.size,
        "limit": settings.limit,
        "start": start,
        "source": manifest.source_digest(taken.sources),
    }


def _statement(
    settings: TrainPriorSettings,
    config: priors.PriorConfig,
    origins: dict[str, str],
    taken: Intake,
    prior: priors.Prior,
    tools: Tools,
) -> Manifest:
    output = settings.place()
    used = {"flat": True, "limit": settings.limit, "skipped": tuple(refusal.path for refusal in taken.refused)}
    figures = {f"held-out PSNR at sigma {sigma} (dB)": round(value, 2) for sigma, value in prior.figures.items()}
    digest = manifest.source_digest(taken.sources)
    parents = [manifest.dependency("raw", settings.raw, output=output, digest=digest, **used)]
    if settings.start:
        start = manifest.file_sha256(settings.start)
        parents.append(manifest.dependency("start", settings.start, output=output, digest=start))
    return statement(
        stage="train-prior",
        method="ddpm",
        config=config.model_dump(mode="json"),
        origins=origins,
        settings=settings,
        dependencies=parents,
        counts=taken.counts() | {"images": len(taken.data)},
        notes=tools.notes
        | {
            "figures": prior.figures,
            "start": settings.start.name if settings.start else None,
            **overlaps.raw(taken.data),
            "partial": settings.limit is not None,
        },
        warnings=[*tools.notes.pop("warnings", []), *taken.warnings()],
        summary=figures,
        next=pasted("ue-audit", "purify", "--prior", output, size=settings.size),
        run=RunDetails(device=str(tools.device)),
    )
