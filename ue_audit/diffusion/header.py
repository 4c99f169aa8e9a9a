"""The header of a safetensors file, read with suspicion before anything is allocated for its tensors."""

import json
from typing import Any

from ue_audit.errors import IntegrityError

HEADER_BYTES = 2**24


def read_header(raw: bytes, where: str) -> dict[str, Any]:
    """The JSON object a safetensors file opens with, every tensor entry with a shape."""
    if raw[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
        raise IntegrityError(
            f"{where}: expected a safetensors file, found a pickle, which can run code when it is opened",
            hint="in a place you trust: load it with weights_only=True and write it with safetensors",
        )
    length = int.from_bytes(raw[:8], "little")
    if len(raw) < 8 or not 2 <= length <= min(HEADER_BYTES, len(raw) - 8):
        raise IntegrityError(f"{where}: expected a safetensors file, found something else or a torn one")
    try:
        header: dict[str, Any] = json.loads(raw[8 : 8 + length].decode("utf-8"))
        whole = isinstance(header, dict) and all(
            isinstance(entry["shape"], list) for key, entry in header.items() if key != "__metadata__"
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{where}: the safetensors header is damaged: {error}") from error
    if not whole:
        raise IntegrityError(f"{where}: the safetensors header is damaged")
    return header
