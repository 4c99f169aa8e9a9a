"""What the tests share: the real data beside the repository, if it is there."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """../shared/data, or a skip that says so."""
    if not SHARED.is_dir():
        pytest.skip("the real images in ../shared/data are not there")
    return SHARED
