"""The operations in the compiled core, with the arguments of their namesakes in `_numpy`."""

from __future__ import annotations

from model_forensics._core import (
    arithmetic_decode,
    arithmetic_encode,
    arithmetic_size,
    codelength_per_channel,
    codelength_per_token,
    compiler,
    entropy_windows,
    histogram,
    quantize_log,
    quantize_uniform,
)
from model_forensics._core import StreamError as BrokenStream

__all__ = [
    "BrokenStream",
    "arithmetic_decode",
    "arithmetic_encode",
    "arithmetic_size",
    "codelength_per_channel",
    "codelength_per_token",
    "compiler",
    "entropy_windows",
    "histogram",
    "quantize_log",
    "quantize_uniform",
]
