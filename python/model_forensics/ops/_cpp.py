"""The operations in the compiled core, with the arguments of their namesakes in `_numpy`."""

from __future__ import annotations

from model_forensics._core import (
    codelength_per_channel,
    codelength_per_token,
    compiler,
    entropy_windows,
    histogram,
    patch_rows,
    quantize_log,
    quantize_uniform,
)

__all__ = [
    "codelength_per_channel",
    "codelength_per_token",
    "compiler",
    "entropy_windows",
    "histogram",
    "patch_rows",
    "quantize_log",
    "quantize_uniform",
]
