"""What this installation and machine have: versions, devices, threads, weights, disk, methods, presets."""

import ast
import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ue_audit import __version__, methods
from ue_audit.config import load_preset, preset_names, presets_root
from ue_audit.rendering.terminal import size

PACKAGES = ("torch", "torchvision", "lpips", "pillow", "numpy", "scipy", "pydantic", "safetensors")
PRESET_STAGES = ("protect", "train-prior", "purify", "evaluate", "audits")
COUNTED_IMAGES = 50_000  # the size of set for which a method's cost is told

Table = dict[str, dict[str, str]]


def examine() -> Table:
    """Sections of facts, each a name and what was found. Loads torch."""
    return {
        "versions": versions(),
        "devices": devices(),
        "weights": weights(),
        "disk": disk(Path.cwd()),
        "presets": {stage: ", ".join(preset_names(stage)) or "none" for stage in PRESET_STAGES}
        | {"place": str(presets_root())},
    }


def versions() -> dict[str, str]:
    """ue-audit, Python, system and the packages that decide results."""
    found = {"ue-audit": __version__, "python": platform.python_version(), "system": platform.platform()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing: pip install " + name
    return found


def devices() -> dict[str, str]:
    """Every device that --device can name, and what `auto` takes."""
    import torch

    found = {"cpu": f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"}
    for number in range(torch.cuda.device_count()):
        memory = torch.cuda.get_device_properties(number).total_memory
        found[f"cuda:{number}"] = f"{torch.cuda.get_device_name(number)}, {size(memory)}"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found | {"auto": next((name for name in reversed(found) if name != "cpu"), "cpu")}


def weights() -> dict[str, str]:
    """Where the networks behind LPIPS lie, or the one command that gets them."""
    from ue_audit.training import lpips_weights

    found = {name: lpips_weights.find(net=name) for name in lpips_weights.TRUNKS}
    uses = {"alex": "the prior's own features guide instead", "vgg": "guide=lpips-vgg cannot be asked for"}
    return {
        f"lpips ({name})": str(path) if path else f"not found, so {uses[name]}; {lpips_weights.hint(name)}"
        for name, path in found.items()
    }


def disk(folder: Path) -> dict[str, str]:
    """Room where outputs land."""
    free = size(shutil.disk_usage(folder).free)
    return {"free here": free, "writable here": "yes" if os.access(folder, os.W_OK) else "no"}


def catalogue() -> Table:
    """Methods and presets by kind, each with its one line; imports none of them."""
    folders = {folder: kind for kind, folder in methods.KINDS.items()}
    package = Path(__file__).parent
    found = {
        folder: {name: _first_line(package / folder / f"{name}.py") for name in methods.names(kind)}
        for folder, kind in folders.items()
    }
    presets = [(stage, name) for stage in PRESET_STAGES for name in preset_names(stage)]
    return found | {"presets": {f"{stage}/{name}": _comment(stage, name) for stage, name in presets}}


def method_table(folders: Iterable[str] = tuple(methods.KINDS.values())) -> dict[str, list[dict[str, Any]]]:
    """Every method of these kinds: what it is, paper, cost, needs, its presets. Loads them all, and torch with them."""
    kinds = {folder: kind for kind, folder in methods.KINDS.items()}
    return {folder: [_described(kinds[folder], name) for name in methods.names(kinds[folder])] for folder in folders}


def _described(kind: str, name: str) -> dict[str, Any]:
    """A method in plain values, with the cost of its defaults and of its presets; of a protection its budget, of a
    learner the victim that it hardens, as its defaults have it."""
    module = methods.load(kind, name)
    stage = methods.STAGE[kind]
    presets = [p for p in preset_names(stage) if load_preset(stage, p)["method"] == name]
    default, *others = (methods.configure(kind, p, {}) for p in (name, *presets))
    found = {
        "name": name,
        "what": (module.__doc__ or "").partition("\n")[0],
        "paper": module.SOURCE,
        "needs": list(module.NEEDS),
        "passes": {name: _cost(default)} | {p: _cost(chosen) for p, chosen in zip(presets, others, strict=True)},
    }
    if kind == "protection":
        found |= {"budget": module.BUDGET, "limit": methods.limit(module, default.config)}
    if kind == "learner":
        found |= {"counters": methods.counters(default), "reference": getattr(module, "REFERENCE", False)}
    return found


def _cost(chosen: methods.Chosen) -> float:
    return round(float(chosen.module.passes(chosen.config, COUNTED_IMAGES)), 1)


def _first_line(module: Path) -> str:
    return (ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def _comment(stage: str, name: str) -> str:
    first = (presets_root() / stage / f"{name}.yaml").read_text(encoding="utf-8").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
