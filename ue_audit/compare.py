"""compare: two audits side by side, `report --compare A B`. Reports or evaluations in; with -o a sealed folder out."""

import hashlib
import json
from pathlib import Path
from typing import Any

from ue_audit import __version__, composing, differences, facts, manifest, shards
from ue_audit.digests import to_json
from ue_audit.errors import IntegrityError, UsageError
from ue_audit.manifest import MANIFEST, Manifest
from ue_audit.progress import SILENT, Progress
from ue_audit.rendering import compared
from ue_audit.settings import ReportSettings
from ue_audit.tool_settings import CompareSettings

FILES = ("comparison.json", "comparison.md")


def run(settings: CompareSettings, progress: Progress = SILENT) -> tuple[dict[str, Any], Path | None]:
    """The comparison, and the folder it was written to if one was asked for. Hold that one's lock.

    Raises UsageError for what is neither a report nor an evaluation, IntegrityError for damage.
    """
    first, second = settings.compare
    found = differences.compare(content(first), content(second), _names(first.resolve(), second.resolve()))
    if settings.output is not None:
        _write(settings, settings.output, found, progress)
    return found, settings.output


def _names(first: Path, second: Path) -> tuple[str, str]:
    """What two audits are called: their folders' names, after those of the folders above as far as it takes to tell
    them apart."""
    for count in range(1, max(len(first.parts), len(second.parts))):
        names = ["/".join(path.parts[-count:]) for path in (first, second)]
        if names[0] != names[1]:
            return names[0], names[1]
    return first.name, second.name


def content(path: Path) -> dict[str, Any]:
    """The content of report.json of the report at `path`, or of the evaluation there as it would be."""
    stage = manifest.read(path).stage
    if stage == "evaluate":
        return composing.compose(facts.gather(path), None, ReportSettings(evaluation=path))
    if stage != "report":
        raise UsageError(f"expected a report or an evaluation, found the output of {stage}: {path}")
    data = (path / "report.json").read_bytes()
    sealed = {record["path"]: record["sha256"] for record in manifest.records(path)}
    if sealed.get("report.json") != hashlib.sha256(data).hexdigest():
        raise IntegrityError(f"{path / 'report.json'} was changed after it was written")
    found: dict[str, Any] = json.loads(data)
    return found


def _write(settings: CompareSettings, output: Path, found: dict[str, Any], progress: Progress) -> None:
    shards.refuse_overlap(output, list(settings.compare))
    work = shards.Work.open(output, _parameters(settings), fresh=settings.fresh)
    if work.complete:
        progress.say(f"{output} is up to date")
        return
    texts = (to_json(found, indent=2) + "\n", compared.markdown(found))
    files = {name: text.encode() for name, text in zip(FILES, texts, strict=True)}
    if not work.done:
        records = [{"path": name, "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()]
        work.commit("comparison", files, records)
    work.seal(_statement(settings, output, found))


def _parameters(settings: CompareSettings) -> dict[str, Any]:
    sides = [manifest.file_sha256(path / MANIFEST) for path in settings.compare]
    return {"stage": "compare", "sides": sides, "version": __version__}


def _statement(settings: CompareSettings, output: Path, found: dict[str, Any]) -> Manifest:
    names = zip(("first", "second"), settings.compare, strict=True)
    survival = found["verdict"]["survival"]["difference"]
    return manifest.statement(
        stage="compare",
        method="compare",
        settings=settings,
        dependencies=[manifest.dependency(name, path, output=output) for name, path in names],
        counts={"training sets": len(found["accuracies"]), "countermeasures": len(found["attacks"])},
        summary={"difference of survival": survival and survival["value"]},
        next=f"ue-audit verify --chain {output}",
    )
