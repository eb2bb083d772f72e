"""Results in JSON: many rows with the same keys as one table, so that the committed file stays small."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]
TABLES = ("windows", "propagation", "propagation_kept_aside")  # parts with hundreds of rows
DIGITS = 4


def write(outcome: dict[str, Any], path: Path) -> None:
    """Floats are rounded to four digits; nothing else is lost."""
    stored = {name: _pack(value) if name in TABLES else value for name, value in outcome.items()}
    path.write_text(_lines(_rounded(stored)) + "\n")


def read(path: Path) -> dict[str, Any]:
    """What `write` wrote."""
    stored: dict[str, Any] = json.loads(path.read_text())
    return {name: _unpack(value) if name in TABLES else value for name, value in stored.items()}


def _pack(rows: Sequence[Row]) -> dict[str, Any]:
    keys = list(rows[0]) if rows else []
    return {"keys": keys, "rows": [[row[key] for key in keys] for row in rows]}


def _unpack(packed: dict[str, Any]) -> list[Row]:
    return [dict(zip(packed["keys"], row, strict=True)) for row in packed["rows"]]


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return value


def _lines(stored: dict[str, Any]) -> str:
    """One line for each part, and for each row of a part that is a list or a table: differences stay readable."""
    parts = []
    for name in sorted(stored):
        value = stored[name]
        if isinstance(value, dict) and set(value) == {"keys", "rows"}:
            rows = ",\n".join(json.dumps(row) for row in value["rows"])
            text = f'{{"keys": {json.dumps(value["keys"])}, "rows": [\n{rows}\n]}}'
        elif isinstance(value, list):
            text = "[\n" + ",\n".join(json.dumps(row, sort_keys=True) for row in value) + "\n]"
        else:
            text = json.dumps(value, sort_keys=True)
        parts.append(f"{json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}"
