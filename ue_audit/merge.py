"""merge: the parts that `purify --shard` made become one set, byte for byte what one process writes.

Images and records are copied as they are, shard by shard under the numbers they have in the whole. The manifest is
that of one process but for its run details: there the first part's start, the seconds of all parts together, their
devices, and `merged`, a line for each part.
"""

import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ue_audit import gathering, manifest, purified, shards, sharing
from ue_audit.gathering import Part
from ue_audit.journal import Record
from ue_audit.progress import SILENT, Progress
from ue_audit.settings import MergeSettings, Plan
from ue_audit.statement import Dependency, Manifest, RunDetails

SECONDS = "purifying seconds"


def run(settings: MergeSettings, progress: Progress = SILENT) -> Path:
    """Merge the parts in `settings.folders`; returns the sealed output folder.

    Raises UsageError (parts that do not make up one set), IntegrityError (a part unfinished or changed).
    """
    output = settings.place()
    shards.refuse_overlap(output, settings.folders)
    parts = gathering.gather(settings.folders)
    work = shards.Work.open(output, _parameters(parts[0]), fresh=settings.fresh)
    if work.complete:
        progress.say(f"{output} is up to date")
        return output
    _copy(work, parts, progress)
    return work.seal(lambda records: _account(settings, parts, records))


def plan(settings: MergeSettings, progress: Progress = SILENT) -> Plan:
    """What `run` would do; writes nothing."""
    output, parts = settings.place(), gathering.gather(settings.folders)
    shards.refuse_overlap(output, settings.folders)
    records = [(part, record) for part in parts for record in part.records]
    return Plan(
        stage="merge",
        output=str(output),
        images=len(records),
        classes=len({record["label"] for _, record in records} - {None}),
        shards=sum(len(part.dealt) for part in parts),
        output_bytes=sum((part.path / record["path"]).stat().st_size for part, record in records),
        free_bytes=shutil.disk_usage(output.resolve().parent).free,
        notes=tuple(f"{part.path}: {len(part.records)} images" for part in parts),
    )


def _parameters(part: Part) -> dict[str, Any]:
    """Those of one process."""
    return {name: value for name, value in part.manifest.parameters.items() if name != "shard"}


def _copy(work: shards.Work, parts: list[Part], progress: Progress) -> None:
    sources = {number: part for part in parts for number in part.dealt}
    if work.done:
        progress.say(f"{len(work.done)}/{len(sources)} shards done, resuming")
    records: dict[int, list[Record]] = {number: [] for number in sources}
    for record in (record for part in parts for record in part.records):
        records[record["shard"]].append(record)
    progress.start("copying", sum(map(len, records.values())))
    for number, part in sorted(sources.items()):
        if str(number) not in work.done:
            files = {record["path"]: manifest.image_of(part.path, record) for record in records[number]}
            work.commit(str(number), files, records[number])
        progress.advance(len(records[number]))
    progress.stop()


# -- manifest ------------------------------------------------------------------------------------------------


def _account(settings: MergeSettings, parts: list[Part], records: list[Record]) -> Manifest:
    """The manifest that one process would have written, told by the first part."""
    first, output = parts[0], settings.place()
    made = first.manifest
    place = settings.output.as_posix() if settings.output is not None else made.settings.get("output")
    named = {part.asked.device for part in parts}
    device = named.pop() if len(named) == 1 else made.run.device.partition(":")[0]
    return made.model_copy(
        update={
            "status": "complete",
            "settings": made.settings | {"shard": None, "output": place, "device": device},
            "dependencies": [_seen_from(output, first.path, parent) for parent in made.dependencies],
            "counts": made.counts | {"written": len(records)},
            "summary": purified.summary(records),
            "next": purified.following(_source(first), _called(settings, first), first.asked.size),
            "run": _run(parts),
        }
    )


def _run(parts: list[Part]) -> RunDetails:
    runs = [part.manifest.run for part in parts]
    return RunDetails(
        started=min(run.started for run in runs),
        seconds=sum(run.seconds for run in runs),
        device=" and ".join(dict.fromkeys(run.device for run in runs)),
        versions=runs[0].versions,
        measures={
            SECONDS: round(sum(run.measures[SECONDS] for run in runs), 6),
            "merged": [_line(part) for part in parts],
        },
    )


def _line(part: Part) -> dict[str, Any]:
    run = part.manifest.run
    times = {"started": run.started, "finished": run.finished, "seconds": run.seconds, "device": run.device}
    return {"shard": sharing.spelled(*part.of()), "tree": part.manifest.tree, **times}


def _seen_from(output: Path, part: Path, parent: Dependency) -> Dependency:
    """A parent of a part as a parent of the whole, which may lie elsewhere."""
    used = {"flat": parent.flat, "limit": parent.limit, "skipped": parent.skipped}
    place = manifest.locate(part, parent)
    return manifest.dependency(parent.name, place, output=output, digest=parent.digest, **used)


def _called(settings: MergeSettings, part: Part) -> Path:
    """The output as one process would call it, which was told of it as the part was."""
    output, told = settings.place(), part.asked.model_copy(update={"shard": None}).place()
    return told if settings.output is None and told.resolve() == output.resolve() else output


def _source(part: Part) -> Path:
    """The folder of images that was purified, as purify was told of it or of the folder that holds its `train/`."""
    asked, parent = part.asked.source, part.manifest.dependency("protected", "source")
    trained = parent is not None and unquote(parent.uri).rpartition("/")[2] == "train"
    return asked / "train" if trained and asked.resolve().name != "train" else asked
