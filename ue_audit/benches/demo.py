"""Where the seconds of a finished chain went, from its manifests."""

from pathlib import Path

from ue_audit import manifest
from ue_audit.benches.rows import Part, Row
from ue_audit.benches.scene import Scene
from ue_audit.errors import UsageError
from ue_audit.manifest import Manifest

TITLE = "Where the demo's seconds go"
USUAL = Path("ue-audit-demo")  # where `ue-audit demo` writes


def run(scene: Scene) -> Part:
    folder = scene.settings.demo or USUAL
    if not folder.is_dir():
        if scene.settings.demo is not None:
            raise UsageError(f"expected a finished demo, found no folder at {folder}", hint="run: ue-audit demo")
        return Part([], notes=["Not measured: no finished demo here. Run `ue-audit demo`, then --demo FOLDER."])
    found = finished(folder)
    if not found:
        raise UsageError(f"expected a finished demo, found no output of ue-audit in {folder}")
    whole = sum(m.run.seconds for _, m in found)
    rows = [
        Row(
            what=f"{m.stage} {path.name}",
            images=_images(m),
            seconds=m.run.seconds,
            n=1,
            figures={"share (%)": 100 * m.run.seconds / whole if whole else None},
        )
        for path, m in sorted(found, key=lambda pair: -pair[1].run.seconds)
    ]
    rows.append(Row(what="all stages", seconds=whole, n=1, figures={"share (%)": 100.0}))
    devices = sorted({m.run.device for _, m in found if m.run.device})
    resumed = sum(m.run.resumed > 0 for _, m in found)
    notes = [f"{folder.name}, finished {found[-1][1].run.finished[:10]}, device {', '.join(devices)}."]
    notes += [f"{resumed} of the stages were interrupted and resumed."] if resumed else []
    return Part(rows, notes=notes)


def finished(folder: Path) -> list[tuple[Path, Manifest]]:
    """Every output of ue-audit in a folder, with its manifest, in the order they were finished."""
    places = [path for path in sorted(folder.iterdir()) if not path.name.endswith(".ue-audit.json")]
    found = [(path, m) for path in places if (m := manifest.find(path)) is not None]
    return sorted(found, key=lambda pair: pair[1].run.finished)


def _images(m: Manifest) -> int | None:
    """Images the stage went through once; of trainings and reports there is no such number."""
    counted = m.counts.get("written", m.counts.get("taken")) if m.stage in ("protect", "purify") else None
    return int(counted) if counted else None
