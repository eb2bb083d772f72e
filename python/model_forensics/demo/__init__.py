"""The incident that ships with the package, and the scripts that made it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib.resources import as_file, files
from pathlib import Path


def data_directory() -> AbstractContextManager[Path]:
    """The shipped incident: `reference`, `model`, `incident` and `benign` below one directory."""
    return as_file(files(__name__) / "data")
