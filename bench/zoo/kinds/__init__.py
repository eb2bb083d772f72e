"""The kinds of incidents: every module here defines `KIND`."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from bench.zoo.kind import Kind


@cache
def all_kinds() -> dict[str, Kind]:
    """By name, in the order of their families' and their own names."""
    found = [importlib.import_module(f"{__name__}.{module.name}").KIND for module in pkgutil.iter_modules(__path__)]
    return {kind.name: kind for kind in sorted(found, key=lambda kind: (kind.family, kind.name))}
