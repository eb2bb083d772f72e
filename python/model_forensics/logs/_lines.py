"""The form of a log line, and what is kept out of it."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

HIDDEN = "[hidden]"
_ESCAPED = {ord("\n"): "\\n", ord("\r"): "\\r", ord("\x1b"): "\\e", ord("\0"): "\\0"}

Secrets = Callable[[], Iterable[str]]
"""Gives what must not be written; asked for each line, because a key may change."""


class TextLines(logging.Formatter):
    """One line a record: what would break it up is escaped, what is secret is hidden."""

    def __init__(self, secrets: Secrets = tuple) -> None:
        super().__init__("%(asctime)s %(levelname)s %(columns)s%(message)s")
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        record.columns = ""
        if hasattr(record, "execution_time"):
            columns = [
                ("execution_time", f"{record.execution_time:.6f}"),
                ("memory_usage", _number(getattr(record, "memory_usage", None))),
                ("bundle", getattr(record, "bundle", None)),
                ("stage", getattr(record, "stage", None)),
            ]
            record.columns = "".join(f"{name}= {_one_word(value)} " for name, value in columns)
        return hidden(super().format(record), self._secrets()).translate(_ESCAPED)


class JsonLines(logging.Formatter):
    """One JSON object a record: time (ISO 8601 with zone), level, logger, text, and where timed the four columns."""

    def __init__(self, secrets: Secrets = tuple) -> None:
        super().__init__()
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "text": record.getMessage(),
        }
        for name in ("execution_time", "memory_usage", "bundle", "stage"):
            if hasattr(record, name):
                line[name] = getattr(record, name)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return hidden(json.dumps(line, ensure_ascii=False), self._secrets())


def hidden(text: str, secrets: Iterable[str]) -> str:
    """`text` without the secrets in it, in either alphabet of base64, padded or not."""
    for secret in secrets:
        bare = secret.strip().rstrip("=")
        for form in {bare, bare.translate(str.maketrans("+/", "-_")), bare.translate(str.maketrans("-_", "+/"))}:
            if form:
                text = text.replace(f"{form}=", form).replace(form, HIDDEN)
    return text


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"


def _one_word(value: object) -> str:
    """A value as one column, whatever blanks are in it."""
    return "-" if value in {None, ""} else "%20".join(str(value).split())
