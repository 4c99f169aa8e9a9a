"""Kinds of values that settings are made of, as people write them: shares, times, names, devices."""

import re
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field


def parse_share(value: object) -> object:
    """"1%" -> 0.01; anything else is passed on to pydantic."""
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            return float(value.strip()[:-1]) / 100
        except ValueError as error:
            raise ValueError(f"expected a share such as 0.01 or 1%, found {value!r}") from error
    return value


Share = Annotated[float, BeforeValidator(parse_share), Field(ge=0, le=1)]

UNITS = {"s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_duration(value: object) -> object:
    """"1h 30min" -> 5400.0 seconds; anything else, a bare number of seconds, is passed on to pydantic."""
    if not isinstance(value, str) or not re.fullmatch(r"(\s*\d+(\.\d+)?\s*(s|min|m|h|d))+\s*", value):
        return value
    return sum(float(number) * UNITS[unit] for number, unit in re.findall(r"([\d.]+)\s*([a-z]+)", value))


Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0)]
"""Seconds, also written "2h", "45 min" or "1h 30min"."""

NAME = r"^\w[\w.-]*$"
"""What may become part of a file's name."""


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        raise ValueError("expected auto, cpu, cuda, cuda:N or mps")
    return value


Device = Annotated[str, AfterValidator(_device)]
