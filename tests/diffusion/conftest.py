"""A prior that several files look at."""

import pytest
from waves import TINY, Waves

from ue_audit.diffusion.prior import Prior, train
from ue_audit.tools import Tools


@pytest.fixture(scope="package")
def prior() -> Prior:
    return train(Waves(), TINY, Tools())
