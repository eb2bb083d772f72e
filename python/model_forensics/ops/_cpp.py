"""The operations in the compiled core, with the arguments of their namesakes in `_numpy`."""

from __future__ import annotations

from model_forensics._core import StreamError as BrokenStream
from model_forensics._core import (
    add_moments,
    arithmetic_decode,
    arithmetic_encode,
    arithmetic_size,
    bin_sums,
    codelength,
    compiler,
    entropy_windows,
    histogram,
    isa,
    patch_rows,
    predictive_bits,
    quantize,
    set_threads,
    threads,
    value_shapes,
)
from model_forensics.errors import UsageError

__all__ = [
    "BrokenStream",
    "add_moments",
    "arithmetic_decode",
    "arithmetic_encode",
    "arithmetic_size",
    "bin_sums",
    "codelength",
    "compiler",
    "entropy_windows",
    "histogram",
    "isa",
    "patch_rows",
    "predictive_bits",
    "quantize",
    "set_threads",
    "threads",
    "value_shapes",
]

try:
    threads(), isa()
except ValueError as error:
    raise UsageError(str(error), where="environment", cure="Correct the variable, or unset it") from error
