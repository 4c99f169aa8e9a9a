"""Decoded images in memory, as methods see them, and the way between uint8 and float."""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ue_audit.decoding import Pixels
from ue_audit.errors import NonFiniteError, UsageError

if TYPE_CHECKING:
    import torch


class ImageData:
    """Decoded images as methods see them: (N,S,S,3) uint8, in memory or memory-mapped, read by batches of rows.

    What lies beside a training set: `clean`, the clean originals that an optimistic linear probe is fitted on, and
    `own`, the attacker's own clean labelled images, none of them an original of this set; or None.
    """

    clean: "ImageData | None" = None
    own: "ImageData | None" = None

    def __init__(
        self, pixels: Pixels, keys: Sequence[str], classes: Sequence[str], numbers: Sequence[int] | None
    ) -> None:
        self.pixels = pixels
        self.keys = list(keys)
        self.classes = tuple(classes)
        self.size = int(pixels.shape[1])
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self.keys)

    @cached_property
    def labels(self) -> "torch.Tensor | None":
        """(N,) int64 class numbers, or None for a flat folder."""
        import torch

        return None if self._numbers is None else torch.tensor(self._numbers, dtype=torch.int64)

    def batch(self, rows: "torch.Tensor | slice | Sequence[int]") -> "torch.Tensor":
        """(B,3,S,S) float32 in [0,1]."""
        index = rows if isinstance(rows, slice) else np.asarray(rows, dtype=np.int64)
        return to_float(self.pixels[index])

    def take(self, rows: Sequence[int]) -> "ImageData":
        """These rows in this order: a view of the same pixels when they are all rows in order, else a copy."""
        whole = list(rows) == list(range(len(self)))
        numbers = None if self._numbers is None else [self._numbers[row] for row in rows]
        pixels = self.pixels if whole else self.pixels[np.asarray(rows, dtype=np.int64)]
        return ImageData(pixels, [self.keys[row] for row in rows], self.classes, numbers)

    def with_pixels(self, pixels: Pixels) -> "ImageData":
        """The same keys and labels with other pixels."""
        return ImageData(pixels, self.keys, self.classes, self._numbers)

    def with_beside(self, clean: "ImageData | None", own: "ImageData | None" = None) -> "ImageData":
        """The same images, with others beside them."""
        same = self.with_pixels(self.pixels)
        same.clean, same.own = clean, own
        return same

    def with_classes(self, classes: Sequence[str]) -> "ImageData":
        """Labels renumbered to `classes`, which holds every class of this set. Raises UsageError otherwise."""
        unknown = sorted(set(self.classes) - set(classes))
        if unknown or self._numbers is None:
            found = ", ".join(unknown) or "no class folders"
            raise UsageError(f"expected the classes {', '.join(classes)}, found {found}")
        places = [list(classes).index(name) for name in self.classes]
        return ImageData(self.pixels, self.keys, classes, [places[number] for number in self._numbers])


def to_float(pixels: Pixels) -> "torch.Tensor":
    """(B,H,W,3) uint8 -> (B,3,H,W) float32 in [0,1]."""
    import torch

    return torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float().div_(255).contiguous()


def to_uint8(x: "torch.Tensor") -> Pixels:
    """(B,3,H,W) in [0,1] -> (B,H,W,3) uint8, rounded to the nearest level and clipped. Raises NonFiniteError."""
    import torch

    levels = x.detach().float().mul(255)
    if not bool(torch.isfinite(levels).all()):
        raise NonFiniteError("expected pixels, found NaN or infinity")
    nhwc = levels.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    pixels: Pixels = nhwc.cpu().numpy()
    return pixels
