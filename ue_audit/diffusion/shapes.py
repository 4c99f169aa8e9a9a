"""What a network's shape is read from: tensors by name, and the limits of `unet.Config`."""

from collections.abc import Iterator, Mapping
from itertools import count, takewhile
from typing import Any

import pydantic
from torch import Tensor

from ue_audit.diffusion import unet
from ue_audit.errors import IntegrityError

State = Mapping[str, Tensor]


def shaped(where: str, **fields: Any) -> unet.Config:
    """A configuration. Raises IntegrityError for what it cannot express."""
    try:
        return unet.Config(**fields)
    except pydantic.ValidationError as error:
        what = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}".removeprefix(": ") for p in error.errors()[:3])
        raise IntegrityError(f"{where}: a network beyond what can be expressed: {what}") from error


def multipliers(widths: list[int], channels: int, where: str) -> tuple[int, ...]:
    """The widths in units of the channels. Raises IntegrityError."""
    if channels < 1 or any(width % channels for width in widths):
        raise IntegrityError(f"{where}: expected widths that are multiples of {channels}, found {widths[:6]}")
    return tuple(width // channels for width in widths)


def shape(state: State, name: str, dims: int, where: str) -> tuple[int, ...]:
    """Of a tensor that must be there. Raises IntegrityError."""
    found = tuple(state[name].shape) if name in state else ()
    if len(found) != dims:
        raise IntegrityError(f"{where}: expected a tensor {name} of {dims} dimensions, found {found or 'none'}")
    return found


def while_there(state: State, pattern: str) -> Iterator[int]:
    """0, 1, ... as long as the tensor of that number is there."""
    return takewhile(lambda number: pattern.format(number) in state, count())


def check_pixels(state: State, first: str, where: str) -> None:
    """Raises IntegrityError for a network that does not take colour images."""
    channels = shape(state, first, 4, where)[1]
    if channels != 3:
        raise IntegrityError(f"{where}: expected a network of images in colour (3 channels), found {channels} channels")
