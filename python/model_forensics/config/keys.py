"""The keys of the configuration as dotted names, read off the schema."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from model_forensics.config.schema import Config


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _fields(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, field


KEYS: dict[str, FieldInfo] = dict(_fields(Config, ""))
"""Every key that takes a value, in the order of the schema: `output_dir`, `modules.cf.enabled`, …"""


def value_of(config: Config, key: str) -> Any:
    """The value at a dotted key."""
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


def known(path: str) -> str | None:
    """The key that a path into a document lies in (`a.b.0` lies in `a.b`), or None."""
    while path and path not in KEYS:
        path = path.rpartition(".")[0]
    return path or None


def nearest(key: str) -> str | None:
    """The key that was probably meant: one of this section by its spelling, or one of the same name elsewhere."""
    section, _, name = key.rpartition(".")
    siblings = {other.removeprefix(f"{section}.").split(".")[0] for other in KEYS if other.startswith(section)}
    if close := difflib.get_close_matches(name, sorted(siblings), n=1):
        return f"{section}.{close[0]}".lstrip(".")
    names = {other.rpartition(".")[2]: other for other in reversed(KEYS)}
    close = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.8)
    return names[close[0]] if close else None


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as the document that holds them."""
    document: dict[str, Any] = {}
    for key, value in values.items():
        place = document
        *sections, name = key.split(".")
        for section in sections:
            place = place.setdefault(section, {})
        place[name] = value
    return document


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A document as dotted keys; sections that are empty or null hold nothing. What is unknown stays in.

    Raises:
        ValueError: a name has a dot in it, which would make two ways to write one key.
    """
    values: dict[str, Any] = {}
    for name, value in document.items():
        if "." in str(name):
            raise ValueError(f"{prefix}{name}: a name with a dot; write sections one inside the other")
        key = f"{prefix}{name}"
        section = any(known_key.startswith(f"{key}.") for known_key in KEYS)
        if section and isinstance(value, Mapping):
            values |= flat(value, f"{key}.")
        elif not (section and value is None):
            values[key] = value
    return values
