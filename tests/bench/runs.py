"""Runs made by hand, as `python -m bench run --output` would write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MACHINE = {
    "cpu": "Example 9000 (family 1, model 2)",
    "cores": 2,
    "caches": {"L1": "48K"},
    "virtual": False,
    "memory_bytes": 1 << 34,
    "system": "Linux",
    "python": "3.11.7",
    "compiler": "GNU 12.2.0",
    "instruction_set": "avx512",
    "libraries": {"numpy": "2.4.6", "isal": None},
    "size": "full",
    "load_of_others": 0.03,
}


def contender(name: str, seconds: float, *, ours: bool = True, **changed: Any) -> dict[str, Any]:
    return {
        "name": name,
        "threads": 1,
        "ours": ours,
        "items": 1_000_000,
        "median_seconds": seconds,
        "peak_extra_bytes": None,
        "stored_bytes": None,
        **changed,
    }


def case(name: str, *contenders: dict[str, Any], unit: str = "B") -> dict[str, Any]:
    return {"extra_info": {"case": name, "unit": unit, "given": "something", "contenders": list(contenders)}}


def write(path: Path, *cases: dict[str, Any], **machine: Any) -> Path:
    document = {
        "machine_info": {**MACHINE, **machine},
        "commit_info": {"id": "0123456789abcdef", "dirty": False},
        "datetime": "2026-01-02T03:04:05+00:00",
        "benchmarks": list(cases),
    }
    path.write_text(json.dumps(document))
    return path
