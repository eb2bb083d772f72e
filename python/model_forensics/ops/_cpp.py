"""The operations in the compiled core, with the arguments of their namesakes in `_numpy`."""

from __future__ import annotations

from model_forensics._core import (
    codelength,
    compiler,
    entropy_windows,
    histogram,
    quantize,
)

__all__ = [
    "codelength",
    "compiler",
    "entropy_windows",
    "histogram",
    "quantize",
]
