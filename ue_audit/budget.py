"""What a protection may change, and whether it kept to it: measured on whole levels."""

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field

from ue_audit.config import Config, parse_fraction

if TYPE_CHECKING:
    from ue_audit.decoding import Pixels

FLOAT_SUM = 1e-9  # what a root and a division may cost


class Budget(Config):
    """What a protection may change in an image. `limit`: linf in [0,1], l2 in [0,1] units at 32x32, l0 in pixels."""

    norm: Literal["linf", "l2", "l0", "none"]
    limit: Annotated[float, BeforeValidator(parse_fraction)] = Field(0.0, ge=0)

    def at(self, height: int, width: int) -> float:
        """The limit for an image of this size: an l2 grows with the root of the pixels, the others do not."""
        return self.limit * math.sqrt(height * width) / 32 if self.norm == "l2" else self.limit

    def measure(self, x: "Pixels", y: "Pixels") -> float:
        """The distance of two (H,W,3) images in this norm, from whole levels: linf in [0,1], l2 in [0,1] units."""
        import numpy as np

        delta = np.subtract(y, x, dtype=np.int16)
        if self.norm == "linf":
            return int(np.abs(delta).max()) / 255
        if self.norm == "l2":
            return math.sqrt(int(np.square(delta, dtype=np.int32).sum(dtype=np.int64))) / 255
        return int(np.any(delta != 0, axis=2).sum()) if self.norm == "l0" else 0.0

    def holds(self, x: "Pixels", y: "Pixels") -> bool:
        """Whether y is within the budget of x."""
        return self.norm == "none" or self.measure(x, y) <= self.at(x.shape[0], x.shape[1]) + FLOAT_SUM
