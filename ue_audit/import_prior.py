"""import-prior: a diffusion model of other code becomes a prior file as train-prior writes it, with a manifest.

Its manifest says which files it comes from and that its training data is unknown: whether it has seen the owner's
images cannot be told. Before it is written it denoises a few of the built-in photographs, which a network that was put
together wrongly does not.
"""

import shutil
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ue_audit import demo, imagefolder, manifest, shards
from ue_audit.config import resolve
from ue_audit.decoding import decode
from ue_audit.diffusion import foreign
from ue_audit.diffusion.prior import Prior, denoising_psnr
from ue_audit.errors import IntegrityError
from ue_audit.filework import FileWork
from ue_audit.progress import SILENT, Progress
from ue_audit.settings import ImportPriorSettings, Plan
from ue_audit.statement import Manifest, RunDetails, statement
from ue_audit.tools import pick_device, substream

TRIED_PIXELS = 2**14  # of the photographs it is tried on: 16 of 32 px, one of 128 and above
GAIN_DB = 1.0  # a network that takes out less noise than this at the highest of its levels is hardly a denoiser
KEPT = ("network", "predicts", "T", "betas", "beta_1", "beta_T", "t_max")  # of the configuration: the rest is training


def run(settings: ImportPriorSettings, progress: Progress = SILENT) -> Path:
    """Bring in the prior at `settings.source`; returns the sealed file.

    Raises IntegrityError (damaged, hostile, of another kind), UsageError (what only the owner can say is missing).
    """
    output = settings.place()
    shards.refuse_overlap(output, [settings.source])
    device = pick_device(settings.device)
    asked, origins = resolve(foreign.Asked, settings.layers, "import-prior")
    parts = foreign.find(settings.source)
    files = {name: manifest.file_sha256(path) for name, path in parts.named().items()}
    found = foreign.load(parts, asked, settings.size)
    parameters = {"stage": "import-prior", "config": asked.model_dump(mode="json"), "size": settings.size}
    work = FileWork.open(output, parameters | {"files": files}, fresh=settings.fresh)
    if work.complete:
        progress.say(f"{output} is up to date")
        return output
    gains = denoises(found.prior.to(device), progress)
    said = {"imported": True, "format": found.layout, "files": files, "training_data": foreign.UNKNOWN}
    sealed = _statement(settings, parts, found, said | {"gains": gains}, origins)
    sealed = sealed.model_copy(update={"run": RunDetails(device=str(device))})
    return work.finish(found.prior.to("cpu").to_bytes(said), sealed)


def plan(settings: ImportPriorSettings, progress: Progress = SILENT) -> Plan:
    """What `run` would do, after reading the files in full; writes nothing."""
    asked, _ = resolve(foreign.Asked, settings.layers, "import-prior")
    found = foreign.load(foreign.find(settings.source), asked, settings.size)
    weights = sum(w.numel() for w in found.prior.network.parameters())
    return Plan(
        stage="import-prior",
        output=str(settings.place()),
        images=0,
        output_bytes=4 * weights,
        free_bytes=shutil.disk_usage(settings.place().resolve().parent).free,
        notes=(f"{found.layout}, {weights:,} weights, timesteps 1..{found.prior.t_max}", *found.assumed),
    )


def denoises(prior: Prior, progress: Progress = SILENT) -> dict[str, float]:
    """{"0.13": dB, ...}: by how much the prior betters the noise, at the levels priors are judged at.

    Raises IntegrityError if it answers with NaN or infinity.
    """
    x = photographs(prior.size)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(substream(0, "import-prior")))
    levels, gains = prior.judged_at(), {}
    progress.start("trying it", len(levels), "noise levels")
    for sigma, t in levels.items():
        reached = denoising_psnr(prior, [(x, noise)], t)
        noisy = float(-20 * (prior.schedule.sigma(t) / 2).log10())
        gains[sigma] = round(reached - noisy, 2)
        progress.advance(1)
    progress.stop()
    if not all(abs(gain) < float("inf") for gain in gains.values()):
        raise IntegrityError("this network answers with NaN or infinity", hint="its weights are finite, but too large")
    return gains


def photographs(size: int) -> Tensor:
    """(N,3,size,size) in [0,1]: the first built-in images, enlarged where the prior is for larger ones."""
    with zipfile.ZipFile(demo.ARCHIVE) as archive:
        names = [name for name in archive.namelist() if name.startswith("val/")]
        some = names[:: max(1, len(names) // 64)][: max(1, TRIED_PIXELS // size**2)]
        images = [imagefolder.to_float(decode(archive.read(n)).pixels[None]) for n in some]
    return F.interpolate(torch.cat(images), (size, size), mode="bicubic", antialias=True).clamp(0, 1)


def _statement(
    settings: ImportPriorSettings,
    parts: foreign.Parts,
    found: foreign.Found,
    said: dict[str, Any],
    origins: dict[str, str],
) -> Manifest:
    output, config = settings.place(), found.prior.config.model_dump(mode="json")
    gains = {f"takes out noise of sigma {sigma} (dB)": gain for sigma, gain in said["gains"].items()}
    parents = [
        manifest.dependency(f"imported {name}", path, output=output, digest=said["files"][name])
        for name, path in parts.named().items()
    ]
    return statement(
        stage="train-prior",
        method=found.layout,
        config={name: config[name] for name in KEPT},
        origins=origins,
        settings=settings,
        dependencies=parents,
        notes={
            **said,
            "start": f"{found.layout} weights of unknown training data",
            "read_with": found.assumed,
            "size": found.prior.size,
        },
        warnings=list(_warnings(found, said["gains"])),
        summary={"weights": sum(w.numel() for w in found.prior.network.parameters()), **gains},
        next=f"ue-audit purify --prior {output}",
    )


def _warnings(found: foreign.Found, gains: dict[str, float]) -> list[str]:
    unknown = "What this prior was trained on is not known: it may have seen the images to purify, or the test set."
    last = list(gains.values())[-1]
    weak = f"It betters noisy photographs by {last:.1f} dB only: are heads, size and schedule right?"
    assumed = f"Read with {'; '.join(found.assumed)}. Otherwise: --set T=…, betas, beta_1, beta_T, heads; --size."
    return [unknown, *([assumed] if found.assumed else []), *([weak] if last < GAIN_DB else [])]
