"""The kinds of incidents: every module here defines `KIND`."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from bench.zoo.kind import Kind


@cache
def all_kinds() -> dict[str, Kind]:
    """By name, in the order of their families' and their own names."""
    found: dict[str, Kind] = {}
    for module in pkgutil.iter_modules(__path__):
        found[module.name] = importlib.import_module(f"{__name__}.{module.name}").KIND
        assert found[module.name].name == module.name, f"the kind of {module.name}.py has another name"
    return dict(sorted(found.items(), key=lambda item: (item[1].family, item[0])))
