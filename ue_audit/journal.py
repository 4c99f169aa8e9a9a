"""The lines of a journal, and what differs between the settings in its head and those asked for."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ue_audit.digests import canonical

Record = dict[str, Any]


def line(value: Record) -> bytes:
    """A journal line carries its own checksum, so that a torn one is known."""
    text = canonical(value)
    return hashlib.sha256(text).hexdigest()[:16].encode() + b" " + text + b"\n"


def parsed(text: bytes) -> Record | None:
    """What a journal line says, or None for a torn one."""
    check, _, body = text.partition(b" ")
    if hashlib.sha256(body).hexdigest()[:16].encode() != check:
        return None
    value: Record = json.loads(body)
    return value


def differences(
    there: Mapping[str, Any], now: Mapping[str, Any], called: tuple[str, str] = ("there", "now")
) -> list[str]:
    """The settings that are not equal, each with both values; nested ones by dotted names."""
    old, new = dict(_leaves(there)), dict(_leaves(now))
    pairs = {key: (old.get(key, "absent"), new.get(key, "absent")) for key in sorted(old.keys() | new.keys())}
    return [f"{key}: {a!r} {called[0]}, {b!r} {called[1]}" for key, (a, b) in pairs.items() if a != b]


def _leaves(value: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    leaves: list[tuple[str, Any]] = []
    for key, item in value.items():
        nested = isinstance(item, Mapping) and item
        leaves += _leaves(item, f"{above}{key}.") if nested else [(f"{above}{key}", item)]
    return leaves
