"""Versions, devices and backends of this installation, and whether it is healthy."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from model_forensics import ops
from model_forensics.environment import installed

PACKAGES = ("model-forensics", "numpy", "torch", "transformers", "safetensors", "numba", "triton")


def describe() -> dict[str, Any]:
    """What `model-forensics info` shows; `health` is "ok", "degraded" (works, but slower or less) or "broken"."""
    import torch  # noqa: PLC0415  (only this command needs it)

    backends = ops.backends()
    problems = _problems(backends)
    broken = any(problem.startswith("broken") for problem in problems)
    return {
        "health": {"status": "broken" if broken else "degraded" if problems else "ok", "problems": problems},
        "versions": {"python": platform.python_version(), **{name: installed(name) for name in PACKAGES}},
        "platform": platform.platform(),
        "devices": ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))],
        "backends": backends,
    }


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
