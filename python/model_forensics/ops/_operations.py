"""The public operations: check the arguments, pick the backend, allocate the result.

Every backend gives the same bits for `entropy_windows`, `histogram`, `quantize` and `codelength_adaptive`, and sums in
the same order for `codelength`. Arrays that are not C-contiguous or aligned are copied once; other dtypes are refused.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from model_forensics.errors import UsageError
from model_forensics.ops import _check, _dispatch, _tables

Reduce = Literal["channel", "token", "site"]
Scale = Literal["uniform", "log"]


def entropy_windows(
    x: npt.NDArray[np.uint8],
    *,
    window: int = 256,
    stride: int = 64,
    alphabet: int = 256,
    offsets: npt.NDArray[np.int64] | None = None,
    backend: str = "auto",
) -> npt.NDArray[np.float64]:
    """Shannon entropy of every window, H = −Σ p log2 p (Shannon 1948), of the symbols' frequencies in it.

    Args:
        x: [n] uint8 symbols, each below `alphabet`.
        window: symbols in a window, 1 to 1,048,576.
        stride: symbols from one window to the next, at least 1.
        alphabet: number of symbols, 2 to 256.
        offsets: [rows + 1] int64; row r is x[offsets[r]:offsets[r + 1]], and no window crosses a row. None: one row.
        backend: "auto" or the name of a backend.

    Returns:
        [windows] float64, bits per symbol, the windows of all rows one after another. A row of length L has none if
        L < window, else (L − window)//stride + 1. Sums are integers in units of 2^-32 bits, so backends agree exactly
        and the error is below 2e-10 bits.

    Raises:
        UsageError: an argument is not as above.
        BackendUnavailable: the backend cannot serve.
    """
    op = "entropy_windows"
    choice = _dispatch.select(op, x, backend)
    symbols: npt.NDArray[np.uint8] = _check.array(op, "x", x, np.uint8, 1)
    window = _check.integer(op, "window", window, 1, _tables.MAX_WINDOW)
    stride = _check.integer(op, "stride", stride, 1, np.iinfo(np.int32).max)
    alphabet = _check.integer(op, "alphabet", alphabet, 2, 256)
    rows = _check.row_offsets(op, offsets, symbols.size)
    _check.symbols_below(op, symbols, alphabet)
    lengths = np.diff(rows)
    windows = np.where(lengths < window, 0, (lengths - window) // stride + 1)
    out = np.empty(int(windows.sum()), dtype=np.float64)
    choice.module.entropy_windows(symbols, rows, window, stride, alphabet, _tables.window_costs(window), out)
    _dispatch.record(choice)
    return out


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
    return _histogram("histogram", symbols, alphabet, backend)


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


def codelength(
    symbols: npt.NDArray[np.uint8],
    cost: npt.NDArray[np.float32],
    *,
    reduce: Reduce = "channel",
    backend: str = "auto",
) -> npt.NDArray[np.float64]:
    """Bits that the symbols cost under a static model per channel: Σ cost[channel, symbol].

    Args:
        symbols: [tokens, channels] uint8, each below the alphabet of `cost`.
        cost: [channels, alphabet] float32, bits of each symbol; +Inf for an impossible one, no NaN.
        reduce: what remains after the sum: "channel", "token", or "site" for one number.
        backend: "auto" or the name of a backend.

    Returns:
        float64 bits, summed in float64: [channels], [tokens], or [] (no dimension).

    Raises:
        UsageError: an argument is not as above.
        BackendUnavailable: the backend cannot serve.
    """
    op = "codelength"
    choice = _dispatch.select(op, symbols, backend)
    checked: npt.NDArray[np.uint8] = _check.array(op, "symbols", symbols, np.uint8, 2)
    tokens, channels = checked.shape
    costs: npt.NDArray[np.float32] = _check.array(op, "cost", cost, np.float32, 2, (channels, None))
    alphabet = _check.integer(op, "the number of columns of cost", costs.shape[1], 1, 256)
    reduced = _check.choice(op, "reduce", reduce, ("channel", "token", "site"))
    _check.symbols_below(op, checked, alphabet)
    if not (costs > -np.inf).all():  # NaN compares false
        raise UsageError("cost holds NaN or -Inf", where=op, cure="Pass bits that are numbers, or +Inf")
    out = np.empty(tokens if reduced == "token" else channels, dtype=np.float64)
    if reduced == "token":
        choice.module.codelength_per_token(checked, costs, out)
    else:
        choice.module.codelength_per_channel(checked, costs, out)
    _dispatch.record(choice)
    return np.array(out.sum()) if reduced == "site" else out


def codelength_adaptive(
    symbols: npt.NDArray[np.uint8], *, alphabet: int, backend: str = "auto"
) -> npt.NDArray[np.float64]:
    """Bits that each channel costs under an adaptive model that starts knowing nothing.

    The Krichevsky–Trofimov estimator (1981): P(next = k) = (n_k + ½)/(n + alphabet/2). Its product over a sequence
    depends on the counts only, so the codelength is exact from the histogram:
    log2 Γ(n + A/2)/Γ(A/2) − Σ_k log2 Γ(n_k + ½)/Γ(½).

    Args:
        symbols: [tokens, channels] uint8, each below `alphabet`.
        alphabet: number of symbols A, 2 to 256.
        backend: "auto" or the name of a backend (it counts; the formula is evaluated in one place).

    Returns:
        [channels] float64 bits; 0 without tokens.

    Raises:
        UsageError: an argument is not as above.
        BackendUnavailable: the backend cannot serve.
    """
    counts = _histogram("codelength_adaptive", symbols, alphabet, backend)
    tokens = symbols.shape[0]
    nats = gammaln(tokens + alphabet / 2) - gammaln(alphabet / 2)
    nats = nats - (gammaln(counts + 0.5) - gammaln(0.5)).sum(axis=1)
    bits: npt.NDArray[np.float64] = nats / np.log(2.0)
    return bits


def _histogram(op: str, symbols: npt.NDArray[np.uint8], alphabet: int, backend: str) -> npt.NDArray[np.int64]:
    choice = _dispatch.select(op, symbols, backend)
    checked: npt.NDArray[np.uint8] = _check.array(op, "symbols", symbols, np.uint8, 2)
    alphabet = _check.integer(op, "alphabet", alphabet, 2, 256)
    _check.symbols_below(op, checked, alphabet)
    out = np.empty((checked.shape[1], alphabet), dtype=np.int64)
    choice.module.histogram(checked, alphabet, out)
    _dispatch.record(choice)
    return out
