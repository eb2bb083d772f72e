"""What else does the same work: other libraries, and plain versions of the operations in NumPy and numba.

The plain versions belong to the benchmark, not to the package: they are yardsticks and must not move when it does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import constriction
import numba
import numpy as np
import numpy.typing as npt
import scipy.stats
from scipy.special import gammaln

Bytes = npt.NDArray[np.uint8]

_CHUNK = 1 << 13  # windows at a time, so that the vectorised version stays within some megabytes
KT_BLOCK = 1 << 14  # symbols that share one table in `constriction_adaptive_encode`; larger is hardly faster


def entropy_numpy(x: Bytes, window: int, stride: int, alphabet: int) -> npt.NDArray[np.float64]:
    """Windows by `sliding_window_view`, counts by one `bincount` over many windows, entropy in float64."""
    windows = np.lib.stride_tricks.sliding_window_view(x, window)[::stride]
    out = np.empty(len(windows))
    for start in range(0, len(windows), _CHUNK):
        part = windows[start : start + _CHUNK]
        keys = part + np.arange(0, len(part) * alphabet, alphabet, dtype=np.int64)[:, None]
        counts = np.bincount(keys.ravel(), minlength=len(part) * alphabet).reshape(-1, alphabet)
        terms = np.zeros(window + 1)
        terms[1:] = np.arange(1, window + 1) * np.log2(np.arange(1, window + 1))
        out[start : start + _CHUNK] = np.log2(window) - terms[counts].sum(axis=1) / window
    return out


@numba.njit(nogil=True)
def entropy_numba(x: Bytes, window: int, stride: int, alphabet: int) -> npt.NDArray[np.float64]:
    """The loop that one writes first: counts move with the window, Σ n log2 n is kept up to date from a table."""
    terms = np.zeros(window + 1)
    for n in range(1, window + 1):
        terms[n] = n * np.log2(n)
    windows = 0 if x.size < window else (x.size - window) // stride + 1
    out = np.empty(windows)
    counts = np.zeros(alphabet, np.int32)
    total = 0.0
    for i in range(window if windows else 0):
        total += terms[counts[x[i]] + 1] - terms[counts[x[i]]]
        counts[x[i]] += 1
    for w in range(windows):
        if w:
            start = w * stride
            for i in range(start - stride, start):
                total += terms[counts[x[i]] - 1] - terms[counts[x[i]]]
                counts[x[i]] -= 1
            for i in range(start + window - stride, start + window):
                total += terms[counts[x[i]] + 1] - terms[counts[x[i]]]
                counts[x[i]] += 1
        out[w] = np.log2(window) - total / window
    return out


def entropy_scipy(x: Bytes, window: int, stride: int, alphabet: int) -> npt.NDArray[np.float64]:
    """`scipy.stats.entropy` of each window's counts, in a Python loop."""
    starts = range(0, x.size - window + 1, stride)
    counts = (np.bincount(x[start : start + window], minlength=alphabet) for start in starts)
    return np.array([scipy.stats.entropy(one, base=2) for one in counts])


@numba.njit(nogil=True, fastmath=True)
def read_numba(values: npt.NDArray[np.float32]) -> float:
    """Reads every value once: a sum whose order the compiler may choose, so that it becomes wide vector loads."""
    total = np.float32(0)
    for i in range(values.size):
        total += values[i]
    return total


def readers(values: npt.NDArray[np.float32]) -> dict[str, Callable[[], object]]:
    """Ways to read a float32 array once; the fastest of them is what this machine's memory gives to one core."""
    flat = values.reshape(-1)
    words = flat.view(np.int64)
    return {
        "read: np.sum": lambda: np.sum(flat),
        "read: np.max": lambda: np.max(flat),
        "read: np.max of 64-bit words": lambda: np.max(words),
        "read: np.dot (BLAS)": lambda: np.dot(flat, flat),
        "read: numba sum": lambda: read_numba(flat),
    }


def codelength_numpy(
    values: npt.NDArray[np.float32],
    low: npt.NDArray[np.float32],
    step: npt.NDArray[np.float32],
    cost: npt.NDArray[np.float32],
) -> npt.NDArray[np.float64]:
    """[channels] bits on a log grid, as one writes it in NumPy."""
    symbols = quantize_numpy(values, "log", low, step, cost.shape[1] - 1)
    return codelength_of_symbols_numpy(symbols, cost)


def codelength_of_symbols_numpy(symbols: Bytes, cost: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """[channels] bits."""
    return np.take_along_axis(cost, symbols.T.astype(np.int64), axis=1).sum(axis=1, dtype=np.float64)


def quantize_numpy(
    values: npt.NDArray[np.float32],
    scale: str,
    low: npt.NDArray[np.float32] | None,
    step: npt.NDArray[np.float32] | None,
    levels: int | None,
) -> Bytes:
    """Symbols as one writes it in NumPy, in float32; ±0 and values below a log grid are level 0."""
    if scale == "sign":
        return np.signbit(values).astype(np.uint8)
    if scale == "exponent":
        return ((values.view(np.uint32) >> np.uint32(23)) & np.uint32(0xFF)).astype(np.uint8)
    assert low is not None
    assert step is not None
    with np.errstate(divide="ignore"):
        position = ((np.log2(np.abs(values)) if scale == "log" else values) - low) / step
    symbols = np.clip(np.floor(position), 0, levels - 1).astype(np.uint8)
    symbols[~np.isfinite(values)] = levels
    return symbols


def histogram_numpy(symbols: Bytes, alphabet: int) -> npt.NDArray[np.int64]:
    """[channels, alphabet] counts by one `bincount`."""
    channels = symbols.shape[1]
    keys = (symbols + np.arange(channels) * alphabet).ravel()
    return np.bincount(keys, minlength=channels * alphabet).reshape(channels, alphabet)


def codelength_adaptive_numpy(symbols: Bytes, alphabet: int) -> npt.NDArray[np.float64]:
    """[channels] bits of the Krichevsky–Trofimov code, from SciPy's log Γ."""
    counts = histogram_numpy(symbols, alphabet)
    nats = gammaln(len(symbols) + alphabet / 2) - gammaln(alphabet / 2)
    return (nats - (gammaln(counts + 0.5) - gammaln(0.5)).sum(axis=1)) / np.log(2.0)


def _categorical(probabilities: npt.NDArray[np.float64]) -> object:
    # Of the ways that constriction offers (lazy or not, perfect or not, float32 or float64), the fastest.
    return constriction.stream.model.Categorical(probabilities.astype(np.float32), lazy=False, perfect=False)


def _krichevsky_trofimov(counts: npt.NDArray[np.float64]) -> object:
    return _categorical((counts + 0.5) / (counts.sum() + 128))


def constriction_model(symbols: npt.NDArray[np.int32]) -> object:
    """A static model of the symbols' own frequencies."""
    return _categorical(np.bincount(symbols, minlength=256) / symbols.size)


def constriction_encode(symbols: npt.NDArray[np.int32], model: object) -> npt.NDArray[np.uint32]:
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(symbols, model)
    return encoder.get_compressed()


def constriction_decode(words: npt.NDArray[np.uint32], model: object, size: int) -> npt.NDArray[np.int32]:
    return constriction.stream.queue.RangeDecoder(words).decode(model, size)


def constriction_adaptive_encode(symbols: npt.NDArray[np.int32]) -> npt.NDArray[np.uint32]:
    """Every block under the Krichevsky–Trofimov estimate of all blocks before it."""
    encoder = constriction.stream.queue.RangeEncoder()
    counts = np.zeros(256)
    for start in range(0, symbols.size, KT_BLOCK):
        block = symbols[start : start + KT_BLOCK]
        encoder.encode(block, _krichevsky_trofimov(counts))
        counts += np.bincount(block, minlength=256)
    return encoder.get_compressed()


def constriction_adaptive_decode(words: npt.NDArray[np.uint32], size: int) -> npt.NDArray[np.int32]:
    decoder = constriction.stream.queue.RangeDecoder(words)
    out = np.empty(size, np.int32)
    counts = np.zeros(256)
    for start in range(0, size, KT_BLOCK):
        block = out[start : start + KT_BLOCK]
        block[:] = decoder.decode(_krichevsky_trofimov(counts), block.size)
        counts += np.bincount(block, minlength=256)
    return out


def byte_planes(words: npt.NDArray[np.unsignedinteger]) -> Sequence[bytes]:
    """The lowest bytes of all words, then the next: what general-purpose compressors should be given."""
    planes = words.reshape(-1).view(np.uint8).reshape(-1, words.itemsize)
    return [np.ascontiguousarray(planes[:, index]).tobytes() for index in range(words.itemsize)]
