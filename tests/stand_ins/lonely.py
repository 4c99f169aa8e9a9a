"""A learner that fails in the second process of torchrun, and waits in the first."""

import os
import time

import torch

from ue_audit.config import Config as Base
from ue_audit.errors import NonFiniteError
from ue_audit.tools import Epoch

SOURCE, NEEDS, KIND = "a test", (), "victim"


class Config(Base):
    """Nothing to set."""


def passes(config, images):
    return 1.0


def fit(data, config, tools):
    if os.environ.get("RANK") == "1":
        raise NonFiniteError("not a number, of all things")
    for number in range(1, 200):
        time.sleep(0.1)
        yield Epoch(number, 1.0, lambda x: torch.zeros(len(x), 3))
