"""The operations in the compiled core, with the arguments of their namesakes in `_numpy`."""

from __future__ import annotations

from model_forensics._core import StreamError as BrokenStream
from model_forensics._core import (
    arithmetic_decode,
    arithmetic_encode,
    arithmetic_size,
    codelength_per_channel,
    codelength_per_token,
    compiler,
    entropy_windows,
    histogram,
    isa,
    quantize_log,
    quantize_uniform,
    set_threads,
    threads,
)
from model_forensics.errors import UsageError

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
    "isa",
    "quantize_log",
    "quantize_uniform",
    "set_threads",
    "threads",
]

try:
    threads(), isa()
except ValueError as error:
    raise UsageError(str(error), where="environment", cure="Correct the variable, or unset it") from error
