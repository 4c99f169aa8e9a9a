"""What the tests share: the real data beside the repository, if it is there."""

import os
from pathlib import Path

import pytest

from ue_audit import storage

# before torch is imported: tests work on small tensors, where a second thread costs more than it gives
os.environ["OMP_NUM_THREADS"] = "1"

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """../shared/data, or a skip that says so."""
    if not SHARED.is_dir():
        pytest.skip("the real images in ../shared/data are not there")
    return SHARED


@pytest.fixture
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Syncs cost nothing: SIGKILL does not lose what the system has been given, only a power cut does."""
    monkeypatch.setattr(storage, "_sync_one", lambda path: None)
    monkeypatch.setattr(storage, "_sync_file_system", lambda folder: True)
