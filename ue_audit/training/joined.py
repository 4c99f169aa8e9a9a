"""The attacker's own clean labelled images, and a training set made of the rows of several sets."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ue_audit.errors import UsageError


def own_of(data: Any, learner: str) -> Any:
    """The attacker's own images beside `data`, of its classes if it has any. Raises UsageError.

    `learner` names, in the message, what needs them.
    """
    own = data.own
    if own is None or not len(own):
        raise none_given(learner)
    if own.labels is None or (data.classes and tuple(own.classes) != tuple(data.classes)):
        expected = ", ".join(data.classes) or "by folder"
        found = "no classes" if own.labels is None else ", ".join(own.classes)
        raise UsageError(f"expected own images of the classes {expected}, found {found}")
    return own


def none_given(learner: str) -> UsageError:
    """What is said of a learner that needs them."""
    return UsageError(
        f"{learner} needs clean labelled images of the attacker's own, none were given", hint="name them: --own FOLDER"
    )


class Joined:
    """Rows of several sets of one size and the same classes, as a training sees them.

    Row i is row `rows[i]` of the sets laid end to end; a row may come more than once.
    """

    def __init__(self, sets: Sequence[Any], rows: Tensor) -> None:
        self.rows = rows
        self.sets = list(sets)
        self.starts = torch.tensor([0, *(len(images) for images in sets)]).cumsum(0).tolist()
        self.size, self.classes = sets[0].size, sets[0].classes
        self.labels = torch.cat([images.labels for images in sets])[rows]
        keys = [key for images in sets for key in images.keys]
        self.keys = [keys[row] for row in rows.tolist()]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, rows: Tensor) -> Tensor:
        """(B,3,S,S) float32 in [0,1]."""
        places = self.rows[rows]
        x = torch.empty(len(places), 3, self.size, self.size)
        for images, start in zip(self.sets, self.starts, strict=False):
            here = (places >= start) & (places < start + len(images))
            if here.any():
                x[here] = images.batch(places[here] - start)
        return x
