"""bench: how fast every stage is, in one run beside a plain recipe. It writes nothing but a table, if one is asked for.

The document, which `--json` prints and both tables are made of:

    machine   date, device, cpu, cores, threads, memory, load and whether it was busy, versions; process_memory is what
              a process holds that has loaded torch and done nothing
    settings  quick, repeats, images, seed
    parts     each {part, title, rows, goals, notes}
    rows      what, images, seconds (median), spread [smallest, largest], n, images_per_second, peak_memory (bytes),
              baseline, ratio (times faster than it, an image), ratio_spread, figures {name: number}; null: not measured
    goals     what, wanted, found, at_least (else at most), met

The parts are modules of benches/. `frontier` and `growth` take long and are run only when named.
"""

import importlib
from pathlib import Path
from typing import Any

from ue_audit.benches import machine, profiles
from ue_audit.benches.scene import Scene, scene
from ue_audit.progress import SILENT, Progress
from ue_audit.rendering import benched, scatter
from ue_audit.storage import write_file
from ue_audit.tool_settings import ASKED_PARTS, BENCH_PARTS, BenchSettings


def run(settings: BenchSettings, progress: Progress = SILENT) -> dict[str, Any]:
    """Measure the parts asked for; the document. With `output` the Markdown grows part by part.

    Raises UsageError (a part, prior or demo that is not there), ResourceError (a device that is not there).
    """
    with scene(settings, progress) as shared:
        document: dict[str, Any] = {
            "machine": machine.describe(shared.device),
            "settings": _amounts(shared),
            "parts": [],
        }
        for found in _parts(shared):
            document["parts"].append(found)
            if settings.output is not None:
                _write(settings.output, document)
    return document


def _write(output: Path, document: dict[str, Any]) -> None:
    """The Markdown, and beside it the plot of the frontier if that was measured."""
    plots = {part["part"]: scatter.svg(part["rows"]) for part in document["parts"] if part["part"] == "frontier"}
    names = {name: f"{output.stem}.{name}.svg" for name, plot in plots.items() if plot is not None}
    for name, place in names.items():
        write_file(output.with_name(place), str(plots[name]).encode())
    write_file(output, benched.markdown_page(document, names).encode())


def _parts(shared: Scene) -> Any:
    """Each part's document as it is done."""
    settings = shared.settings
    if settings.profile is not None:
        shared.progress.say(f"bench: profiling {settings.profile}")
        yield profiles.run(shared, settings.profile).document("profile", f"Top costs of {settings.profile}")
        return
    chosen: tuple[str, ...] = settings.part or tuple(name for name in BENCH_PARTS if name not in ASKED_PARTS)
    for number, name in enumerate(chosen, 1):
        part = importlib.import_module(f"ue_audit.benches.{name.replace('-', '_')}")
        shared.progress.say(f"bench [{number}/{len(chosen)}]: {part.TITLE}")
        yield part.run(shared).document(name, part.TITLE)


def _amounts(shared: Scene) -> dict[str, Any]:
    amounts, settings = shared.amounts, shared.settings
    return {
        "quick": settings.quick,
        "accuracy": settings.accuracy,
        "images": amounts.images,
        "repeats": amounts.repeats,
        "seed": settings.seed,
    }
