"""Checks a configuration, whatever it came from, and says what is wrong and where."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model_forensics.config.keys import flat, known, nearest, nested
from model_forensics.config.schema import Config
from model_forensics.errors import ConfigError

Where = Callable[[str], str | Path | None]
"""Where the value of a key came from: a file and line, a variable, a flag."""
_TRUTH = "should be true or false"
_MESSAGES = {
    "model_type": "a section, which holds keys and is no value",
    "bool_parsing": _TRUTH,
    "bool_type": _TRUTH,
}


def dotted(document: Mapping[str, Any], where: Where) -> dict[str, Any]:
    """The document's values by dotted key.

    Raises:
        ConfigError: a name has a dot in it.
    """
    try:
        return flat(document)
    except ValueError as problem:
        key, _, what = str(problem).partition(": ")
        raise ConfigError(f"{key}: {what}", where=where(key), cure="docs/configuration.md shows the shape") from problem


def validated(values: Mapping[str, Any], where: Where) -> Config:
    """The configuration that values by dotted key describe.

    Raises:
        ConfigError: names the first key that is unknown or whose value is not allowed.
    """
    try:
        return Config.model_validate(nested(values))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
    key = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        raise _unknown(key, where(key))
    named = known(key) or key or "the configuration"
    message = _MESSAGES.get(first["type"]) or _in_words(first["msg"])
    cure = "Correct it, or leave it out for the default; docs/configuration.md describes every key"
    raise ConfigError(f"{named}: {message}", where=where(named), cure=cure)


def _in_words(message: str) -> str:
    """Pydantic's text as the end of "key: …"."""
    return message.removeprefix("Value error, ").replace("Input should be", "should be")


def _unknown(key: str, where: str | Path | None) -> ConfigError:
    near = nearest(key)
    cure = f"The nearest key is {near}" if near else "docs/configuration.md lists every key"
    return ConfigError(f"{key} is no key of the configuration", where=where, cure=cure)
