"""Tensors in a file of someone else's: safetensors, or what torch.save writes, told apart by content.

A pickle reaches `torch.load(weights_only=True)` only after it was read as data (`torchfile`). So nothing in a file is
executed, and loading it takes memory for the bytes it has.
"""

import pickle
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import safetensors.torch
import torch
from torch import Tensor

from ue_audit import torchfile
from ue_audit.errors import IntegrityError, ResourceError
from ue_audit.header import read_header
from ue_audit.pickles import Refused

FILE_BYTES = 2**32
PROTO, PICKLE = b"\x80", ", but a bare pickle"
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
DAMAGE = (  # what the two readers raise on bytes that are not what they expect
    safetensors.SafetensorError, pickle.UnpicklingError, struct.error, zipfile.BadZipFile, RuntimeError, EOFError,
    ValueError, LookupError, TypeError, AttributeError, AssertionError, NotImplementedError, OverflowError,
)  # fmt: skip


def read(path: Path) -> Any:
    """What the file holds: tensors by name, or whatever nest of lists and dictionaries torch.save was given.

    Raises ResourceError if it cannot be read, IntegrityError if it is damaged, hostile or something else.
    """
    try:
        if path.exists() and not path.is_file():
            raise IntegrityError(f"{path}: expected a file of tensors, found something else")
        with path.open("rb") as file:
            size = path.stat().st_size
            if size > FILE_BYTES:
                raise IntegrityError(f"{path}: expected at most {FILE_BYTES} bytes, found {size}")
            with _damage(path):
                return _read(file, size, path)
    except OSError as error:
        raise ResourceError(f"cannot read {path}: {error.strerror or error}") from error


def _read(file: IO[bytes], size: int, path: Path) -> Any:
    start = file.read(len(torchfile.LEGACY))
    file.seek(0)
    if start[:4] == torchfile.ZIP:
        torchfile.check_zip(file, size)
    elif start == torchfile.LEGACY:
        torchfile.check_legacy(file, size)
    elif start[8:9] == b"{":
        read_header(file, size, str(path))
        return safetensors.torch.load_file(path)
    else:
        raise Refused(f"is neither safetensors nor of torch.save{PICKLE if start[:1] == PROTO else ''}")
    file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on old kinds of storage
        return torch.load(file, map_location="cpu", weights_only=True)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    try:
        yield
    except Refused as refused:
        raise IntegrityError(f"{path}: this file {refused}", hint="nothing in it was run") from refused
    except DAMAGE as error:
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise IntegrityError(f"{path}: the tensors cannot be read: {text[:120]}") from error


def check_sound(state: Mapping[str, Tensor], where: str) -> None:
    """Raises IntegrityError unless all are finite floating-point numbers, none twice in the same memory."""
    kinds = (f"{name}: expected numbers with a fraction, found {w.dtype}" for name, w in state.items())
    wrong = [text for text, w in zip(kinds, state.values(), strict=True) if w.dtype not in FLOATS]
    wrong = wrong or [f"{name}: found NaN or infinity" for name, w in state.items() if not w.isfinite().all()]
    filled = {name: w for name, w in state.items() if w.numel()}
    spans = sorted((w.data_ptr(), w.data_ptr() + w.numel() * w.element_size(), name) for name, w in filled.items())
    wrong += [f"{b[2]}: overlaps {a[2]}" for a, b in zip(spans, spans[1:], strict=False) if b[0] < a[1]]
    if wrong:
        what = "finite weights, each with memory of its own"
        raise IntegrityError(f"{where}: expected {what}: {wrong[0]}", details=wrong[:10])
