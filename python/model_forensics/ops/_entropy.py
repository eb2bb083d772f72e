"""Shannon entropy over windows of symbols."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model_forensics.ops import _check, _dispatch, _tables


@_dispatch.served_on_gpu
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
        x: [n] uint8 symbols, each below `alphabet`. A CUDA tensor is served on its GPU; the result is a tensor there.
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
    if choice.backend != "cpp":
        _check.symbols_below(op, symbols, alphabet)
    lengths = np.diff(rows)
    windows = np.where(lengths < window, 0, (lengths - window) // stride + 1)
    out = np.empty(int(windows.sum()), dtype=np.float64)
    try:
        choice.module.entropy_windows(symbols, rows, window, stride, alphabet, _tables.window_costs(window), out)
    except ValueError:  # the core looks for symbols outside the alphabet on its way; this says which one it met
        _check.symbols_below(op, symbols, alphabet)
        raise
    _dispatch.record(choice)
    return out
