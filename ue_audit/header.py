"""The header of a safetensors file, read with suspicion before anything is allocated for its tensors."""

import json
from typing import IO, Any

from ue_audit.errors import IntegrityError

HEADER_BYTES = 2**24


def read_header(file: IO[bytes], size: int, where: str) -> dict[str, Any]:
    """The JSON object that a safetensors file of `size` bytes opens with, every tensor entry with a shape."""
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or not 2 <= length <= min(HEADER_BYTES, size - 8):
        raise IntegrityError(f"{where}: expected a safetensors file, found something else or a torn one")
    try:
        header: dict[str, Any] = json.loads(file.read(length).decode("utf-8"))
        whole = isinstance(header, dict) and all(
            isinstance(entry["shape"], list) for key, entry in header.items() if key != "__metadata__"
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{where}: the safetensors header is damaged: {error}") from error
    if not whole:
        raise IntegrityError(f"{where}: the safetensors header is damaged")
    return header
