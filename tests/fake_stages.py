"""Stages that train nothing: each seals a real output, so that locks, manifests and lineage are the true ones."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import synthetic_evaluation

from ue_audit import chain, manifest, shards
from ue_audit.progress import SILENT, Progress
from ue_audit.settings import Plan, ReportSettings

IMAGE = b"an image"


class Stage:
    """`run` and `plan` of one stage; the settings it was called with are kept in `calls`."""

    def __init__(
        self, name: str, calls: list[tuple[str, Any]], failure: BaseException | None, files: dict[str, bytes]
    ) -> None:
        self.name = name
        self.calls = calls
        self.failure = failure
        self.files = files

    def run(self, settings: Any, progress: Progress = SILENT) -> Path:
        self.calls.append((self.name, settings))
        progress.start(self.name, 2)
        progress.advance(2, loss=0.5)
        if self.failure is not None:
            raise self.failure
        output = settings.place()
        return self._file(output) if output.suffix == ".ckpt" else self._folder(settings, output, progress)

    def plan(self, settings: Any, progress: Progress = SILENT) -> Plan:
        self.calls.append((self.name, settings))
        return Plan(stage=self.name, output=str(settings.place()), images=2, classes=1, shards=1, seconds_estimate=75.0)

    def _folder(self, settings: Any, output: Path, progress: Progress) -> Path:
        source = {"evaluate": "folders", "report": "evaluation"}.get(self.name, "source")
        parent = getattr(settings, source)
        parent = parent[0] if isinstance(parent, tuple) else parent
        work = shards.Work.open(
            output, {"stage": self.name, "seed": getattr(settings, "seed", 0)}, fresh=settings.fresh
        )
        if work.complete:
            progress.say(f"{output} is up to date")
            return output
        records = [{"path": path, "sha256": hashlib.sha256(data).hexdigest()} for path, data in self.files.items()]
        work.commit("0", self.files, records)
        digest = None if manifest.find(parent) else "0" * 64
        return work.seal(
            manifest.statement(
                stage=self.name,
                method=getattr(settings, "method", self.name),
                settings=settings,
                dependencies=[manifest.dependency("source", parent, output=output, digest=digest)],
                summary={"images": 2, "largest change (levels)": 8, "mean PSNR (dB)": None},
                warnings=["threshold not met"],
                next=f"ue-audit next {output}",
            )
        )

    def _file(self, output: Path) -> Path:
        return shards.seal_file(output, b"weights", manifest.statement(stage=self.name, method="ddpm"))


def install(
    monkeypatch: Any, failure: BaseException | None = None, report: bytes | None = None
) -> list[tuple[str, Any]]:
    """Put stand-ins in the place of the stages; the calls they will get. Without `report` that one is the true one."""
    calls: list[tuple[str, Any]] = []
    real = chain.module

    def module(name: str) -> Any:
        if name == "report" and report is None and failure is None:
            return real(name)
        files = {"report.json": report} if name == "report" and report else {"cat/1.png": IMAGE}
        return Stage(name, calls, failure, files)

    monkeypatch.setattr(chain, "module", module)
    return calls


def report_json(folder: Path) -> bytes:
    """A report as the true stage writes it, of an audit without any training."""
    evaluation = synthetic_evaluation.write(folder)
    made = chain.module("report").run(
        ReportSettings(evaluation=evaluation, output=folder / "data.report", images=False)
    )
    return (made / "report.json").read_bytes()


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with data/cat/1.png."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "data" / "cat").mkdir(parents=True)
    (tmp_path / "data" / "cat" / "1.png").write_bytes(b"")
    return Path("data")


@pytest.fixture
def calls(data: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """Stand-ins for the stages, and what they were called with."""
    return install(monkeypatch)


def only_document(out: str) -> dict[str, Any]:
    """The one JSON document on stdout; fails on anything before or after it."""
    document: dict[str, Any] = json.loads(out)
    assert document["schema"] == "ue-audit/result/1"
    return document
