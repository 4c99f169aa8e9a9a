"""The rows of a set as methods use them: their labels, and an order that the order of files does not change."""

from typing import Any

import torch
from torch import Tensor

from ue_audit.errors import UsageError


def labels_of(data: Any, method: str = "this protection") -> Tensor:
    """The labels, or UsageError where there is nothing for `method` to tell apart."""
    if data.labels is None or len(data.classes) < 2:
        found = "images without class folders" if data.labels is None else f"{len(data.classes)} class"
        raise UsageError(
            f"{method} needs two class folders or more, found {found}",
            hint="put the images of each class into a folder of its own",
        )
    return data.labels  # type: ignore[no-any-return]


def in_order(data: Any) -> Tensor:
    """(N,) row numbers in the order of the images' names."""
    return torch.tensor(sorted(range(len(data)), key=lambda row: str(data.keys[row])))
