"""Versions, devices and backends of this installation, and whether it is healthy."""

from __future__ import annotations

import os
import platform
from typing import Any

import numpy as np

from model_forensics import ops
from model_forensics.config import KEYS, Loaded
from model_forensics.config.variables import VARIABLES, stated, unknown
from model_forensics.logs import HIDDEN
from model_forensics.pipeline.environment import installed

PACKAGES = ("model-forensics", "numpy", "torch", "transformers", "safetensors", "numba", "triton")


def describe(loaded: Loaded) -> dict[str, Any]:
    """What `model-forensics info` shows; `health` is "ok", "degraded" (works, but slower or less) or "broken"."""
    import torch  # noqa: PLC0415  (only this command needs it)

    backends = ops.backends()
    set_variables = stated(os.environ)
    problems = [*_problems(backends), *_strange_variables()]
    broken = any(problem.startswith("broken") for problem in problems)
    document = loaded.config.model_dump(mode="json")
    return {
        "health": {"status": "broken" if broken else "degraded" if problems else "ok", "problems": problems},
        "versions": {"python": platform.python_version(), **{name: installed(name) for name in PACKAGES}},
        "platform": platform.platform(),
        "devices": ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))],
        "backends": backends,
        "configuration": {
            "file": None if loaded.file is None else str(loaded.file),
            "file_version": loaded.file_version,
            "values": {
                key: {"value": _at(document, key), "from": str(loaded.origins[key]), "kind": loaded.origins[key].kind}
                for key in KEYS
            },
            "variables": {name: HIDDEN if VARIABLES[name].secret else value for name, value in set_variables.items()},
        },
    }


def _at(document: Any, key: str) -> Any:
    for name in key.split("."):
        document = document[name]
    return document


def _strange_variables() -> list[str]:
    strange = unknown(os.environ).items()
    return [f"degraded: {name} is no variable of this tool{f'; {near} is' if near else ''}" for name, near in strange]


def _problems(backends: dict[str, dict[str, str]]) -> list[str]:
    problems = []
    missing = {states["cpp"] for states in backends.values() if states.get("cpp", "available") != "available"}
    problems += [f"degraded: the compiled core is not used ({reason}); numba serves instead" for reason in missing]
    if installed("transformers") is None:
        problems.append("degraded: transformers is not installed, so no model can be loaded by name; install [hf]")
    symbols = np.arange(512, dtype=np.uint64).astype(np.uint8)
    expected = ops.entropy_windows(symbols, backend="numpy")
    if not np.allclose(ops.entropy_windows(symbols), expected):
        problems.append("broken: entropy_windows differs from its reference on this machine")
    return problems
