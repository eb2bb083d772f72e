"""Symbols of values on a grid per channel, and how often each occurs."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from model_forensics.errors import UsageError
from model_forensics.ops import _check, _dispatch

Scale = Literal["uniform", "log"]


def histogram(symbols: npt.NDArray[np.uint8], *, alphabet: int = 256, backend: str = "auto") -> npt.NDArray[np.int64]:
    """How often each symbol occurs in each channel.

    Args:
        symbols: [tokens, channels] uint8, each below `alphabet`.
        alphabet: number of symbols, 2 to 256.
        backend: "auto" or the name of a backend.

    Returns:
        [channels, alphabet] int64 counts.

    Raises:
        UsageError: an argument is not as above.
        BackendUnavailable: the backend cannot serve.
    """
    return count("histogram", symbols, alphabet, backend)


def quantize(
    x: npt.NDArray[np.float32],
    *,
    low: npt.NDArray[np.float32],
    step: npt.NDArray[np.float32],
    levels: int,
    scale: Scale = "uniform",
    backend: str = "auto",
) -> npt.NDArray[np.uint8]:
    """Symbols of values on a grid per channel.

    Uniform: clip(floor((x − low)/step), 0, levels − 1), in float64. Log: the same on log2|x|, by a definition of log2
    that is the same bits in every backend (`_tables.log2`); x = ±0 is symbol 0. NaN and ±Inf are symbol `levels`.

    Args:
        x: [tokens, channels] float32.
        low: [channels] float32, finite: where the grid of each channel starts (in log2 units on the log scale).
        step: [channels] float32, finite and above 0: width of a level.
        levels: number of levels, 1 to 255; the symbols' alphabet is levels + 1.
        scale: "uniform" or "log".
        backend: "auto" or the name of a backend.

    Returns:
        [tokens, channels] uint8.

    Raises:
        UsageError: an argument is not as above.
        BackendUnavailable: the backend cannot serve.
    """
    op = "quantize"
    choice = _dispatch.select(op, x, backend)
    values: npt.NDArray[np.float32] = _check.array(op, "x", x, np.float32, 2)
    channels = values.shape[1]
    low_checked: npt.NDArray[np.float32] = _check.array(op, "low", low, np.float32, 1, (channels,))
    step_checked: npt.NDArray[np.float32] = _check.array(op, "step", step, np.float32, 1, (channels,))
    levels = _check.integer(op, "levels", levels, 1, 255)
    scale_checked = _check.choice(op, "scale", scale, ("uniform", "log"))
    if not np.isfinite(low_checked).all():
        raise UsageError("low holds NaN or Inf", where=op, cure="Pass a finite start for each channel")
    if not (np.isfinite(step_checked).all() and (step_checked > 0).all()):
        raise UsageError("step holds a width that is not above 0", where=op, cure="Pass a finite width above 0")
    out = np.empty(values.shape, dtype=np.uint8)
    run = choice.module.quantize_log if scale_checked == "log" else choice.module.quantize_uniform
    run(values, low_checked, step_checked, levels, out)
    _dispatch.record(choice)
    return out


def count(op: str, symbols: npt.NDArray[np.uint8], alphabet: int, backend: str) -> npt.NDArray[np.int64]:
    choice = _dispatch.select(op, symbols, backend)
    checked: npt.NDArray[np.uint8] = _check.array(op, "symbols", symbols, np.uint8, 2)
    alphabet = _check.integer(op, "alphabet", alphabet, 2, 256)
    _check.symbols_below(op, checked, alphabet)
    out = np.empty((checked.shape[1], alphabet), dtype=np.int64)
    choice.module.histogram(checked, alphabet, out)
    _dispatch.record(choice)
    return out
