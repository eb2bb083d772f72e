"""Strict JSON: one value, no duplicate keys, no NaN or infinity, bounded size and depth."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any, NoReturn

from model_forensics.errors import BundleFormatError, InputRefused
from model_forensics.files._open_content import open_content, read_content
from model_forensics.files._sealed import Seal

_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")
_CURE = "Write the file again with the program that made it"


def read_json(
    path: Path | str,
    *,
    max_bytes: int = 64 << 20,
    seal: Seal | None = None,
    error: type[InputRefused] = BundleFormatError,
) -> Any:
    """Read one JSON value.

    Args:
        path: the file; a link is refused.
        max_bytes: a larger content is refused before it is read.
        seal: None for a file that is not encrypted.
        error: the class to raise.

    Raises:
        UnsafeFileError: a link or not a regular file.
        InputRefused: as `error`: missing, too large, not UTF-8, invalid, too deep, a duplicate key, NaN or infinity.
        EncryptionError: as `open_content`.
    """
    content = open_content(path, seal, error=error)
    if content.size > max_bytes:
        raise error(
            f"{content.size:,} bytes of JSON; at most {max_bytes:,} are read",
            where=path,
            cure="Check that this is the right file",
        )
    return parse_json(read_content(content), where=str(path), error=error)


def parse_json(data: bytes, *, where: str, error: type[InputRefused] = BundleFormatError) -> Any:
    """Parse one JSON value from bytes; `where` names the source in errors, which are those of `read_json`."""
    try:
        text = data.decode("utf-8")
        value = _DECODER.decode(text)
        if _SURROGATE_ESCAPE.search(text):  # half a character cannot be written or printed again
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError as problem:
        raise error("the JSON is nested too deeply", where=where, cure=_CURE) from problem
    except ValueError as problem:  # includes JSONDecodeError and UnicodeError
        raise error(f"not valid JSON: {problem}", where=where, cure=_CURE) from problem
    return value


def dump_json(value: Any, *, indent: int | None = 1) -> bytes:
    """Deterministic bytes: UTF-8, keys in the order given, a line break at the end.

    Raises:
        ValueError: NaN or infinity.
    """
    separators = (",", ": ") if indent is not None else (",", ":")
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
    return (text + "\n").encode("utf-8")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} occurs twice in one object")
    return value


def _constant(name: str) -> NoReturn:
    raise ValueError(f"the constant {name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:40]} is out of range")
    return value


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant, parse_float=_finite)
