"""Puts the tables of keys and variables into docs/configuration.md (`--write`), or prints them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from model_forensics.config import KEYS, Config, show_size, value_of
from model_forensics.config.sizes import Size
from model_forensics.config.variables import VARIABLES

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
BLOCK = re.compile(r"(<!-- (keys|variables): [^\n]*-->\n)(.*?)(<!-- end -->)", re.DOTALL)


def keys_table() -> str:
    """Every key with its default, what is allowed, and what it does."""
    rows = ["| key | default | allowed | what it does |", "|---|---|---|---|"]
    for key, field in KEYS.items():
        rows.append(f"| `{key}` | `{_default(key)}` | {_allowed(key, field)} | {_meaning(field)} |")
    return "\n".join(rows) + "\n"


def variables_table() -> str:
    """Every variable with the key that it sets, and what it does."""
    rows = ["| variable | sets | what it does |", "|---|---|---|"]
    for variable in VARIABLES.values():
        key = "–" if variable.key is None else f"`{variable.key}`"
        rows.append(f"| `{variable.name}` | {key} | {variable.meaning} |")
    return "\n".join(rows) + "\n"


def _meaning(field: FieldInfo) -> str:
    assert field.description is not None, "every key is described in config/schema.py"
    return " ".join(field.description.split()).replace("|", "\\|")


def _default(key: str) -> str:
    value = value_of(Config(), key)
    if _is_size(KEYS[key]):
        return f'"{show_size(value)}"'
    return json.dumps(value, default=lambda other: list(other) if isinstance(other, tuple) else str(other))


def _allowed(key: str, field: FieldInfo) -> str:
    if _is_size(field):
        return "a size: `512MiB`, `10GB`"
    schema: dict[str, Any] = TypeAdapter(field.annotation, config=None).json_schema()
    for constraint in field.metadata:
        if isinstance(getattr(constraint, "json_schema", None), dict):
            schema |= constraint.json_schema
    words = _in_words(schema)
    limits = [
        f"{sign} {getattr(limit, name):g}"
        for limit in field.metadata
        for name, sign in (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"))
        if getattr(limit, name, None) is not None
    ]
    return words + (f" {' and '.join(limits)}" if limits else "")


def _is_size(field: FieldInfo) -> bool:
    return any(constraint in field.metadata for constraint in Size.__metadata__)


def _in_words(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(_in_words(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "pattern" in schema:
        return f"`{schema['pattern'].strip('^()$')}`".replace("|", "\\|")
    if schema["type"] == "array":
        return f"a list of {_in_words(schema['items'])}"
    if schema.get("format") == "path":
        return "a path"
    return {"boolean": "`true`, `false`", "integer": "a whole number", "number": "a number", "string": "a text"}.get(
        schema["type"], schema["type"]
    )


def page(text: str) -> str:
    """`docs/configuration.md` with the tables that the code has now."""
    tables = {"keys": keys_table(), "variables": variables_table()}
    return BLOCK.sub(lambda found: found[1] + tables[found[2]] + found[4], text)


def main() -> None:
    text = page(PAGE.read_text())
    if "--write" in sys.argv[1:]:
        PAGE.write_text(text)
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
