"""The reports that the tests of rendering share."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

import synthetic_evaluation

from ue_audit import facts, report
from ue_audit.settings import ReportSettings


@pytest.fixture(scope="session")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic_evaluation.write(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="session")
def finished(evaluation: Path) -> Path:
    """A sealed report folder."""
    return report.run(ReportSettings(evaluation=evaluation, output=evaluation.parent / "data.report"))


@pytest.fixture
def content(evaluation: Path) -> dict[str, Any]:
    """The content of report.json without an image sheet, free to be changed."""
    return report.compose(facts.gather(evaluation), None, ReportSettings(evaluation=evaluation))
