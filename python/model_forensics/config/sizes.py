"""Sizes in bytes as people write them: the one place that reads and shows them."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of a size such as 8GiB, 500MB or 1000000: kB, MB, GB, TB are powers of 1000, KiB to TiB of 1024.

    Raises:
        ValueError: it is no size, or less than one byte.
    """
    match = _SIZE.fullmatch(text)
    size = 0 if match is None else int(float(match[1]) * _UNITS[(match[2] or "").lower()])
    if size < 1:
        raise ValueError(f"{text!r} is no size; write it like 10GB or 512MiB")
    return size


def show_size(size: int) -> str:
    """The shortest form that `parse_size` reads back to the same number."""
    exact = [unit for unit, factor in _UNITS.items() if size % factor == 0]
    unit = max(exact, key=_UNITS.__getitem__)
    return f"{size // _UNITS[unit]}{unit.upper().replace('I', 'i')}{'B' if unit else ''}"


def _size(value: Any) -> Any:
    return parse_size(value) if isinstance(value, str) else value


Size = Annotated[
    int,
    BeforeValidator(_size),
    Field(ge=1, strict=True),
    PlainSerializer(show_size, return_type=str, when_used="json"),
    WithJsonSchema({"anyOf": [{"type": "string", "pattern": "^[0-9.]+ *([kKMGT]i?)?B?$"}, {"type": "integer"}]}),
]
"""Bytes; a string such as 10GB is read."""
