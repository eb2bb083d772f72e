"""Windows whose counts move with them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model_forensics.ops import _tables
from model_forensics.ops._arrays import Bits, Integers, Symbols
from model_forensics.ops._numba.compiled import compiled

_SCALE = 2.0**_tables.FIXED_POINT_BITS
_SECTIONS = 4
_ONE = np.uint64(1)  # numba adds a check to every index that might be negative


def entropy_windows(
    symbols: Symbols, offsets: Integers, window: int, stride: int, alphabet: int, cost: Integers, out: Bits
) -> None:
    """Counts move with the window: what leaves and what enters changes the integer sum."""
    # The smaller the counts, the more of them stay next to the processor.
    counts = np.zeros((_SECTIONS, alphabet), dtype=np.uint16 if window < 1 << 16 else np.uint32)
    _entropy_windows(symbols, offsets, window, stride, np.diff(cost), cost[window], counts, out)


@compiled
def _entropy_windows(
    symbols: Symbols,
    offsets: Integers,
    window: int,
    stride: int,
    delta: Integers,
    whole: np.int64,
    counts: npt.NDArray[np.unsignedinteger],
    out: Bits,
) -> None:
    written = 0
    for row in range(offsets.size - 1):
        length = offsets[row + 1] - offsets[row]
        if length < window:
            continue
        windows = (length - window) // stride + 1
        first = offsets[row]
        section = windows // _SECTIONS
        # A section counts its first window anew, which must be little beside the rest.
        if section > 4 * window // stride:
            part = symbols[first : first + (section * _SECTIONS - 1) * stride + window]
            done = section * _SECTIONS
            _four_sections(part, section, window, stride, delta, whole, counts, out[written : written + done])
            first += done * stride
            written += done
            windows -= done
        _one_section(symbols[first:], windows, window, stride, delta, whole, counts[0], out[written:])
        written += windows


@compiled
def _one_section(
    symbols: Symbols,
    windows: int,
    window: int,
    stride: int,
    delta: Integers,
    whole: np.int64,
    counts: npt.NDArray[np.unsignedinteger],
    out: Bits,
) -> None:
    if windows == 0:
        return
    counts[:] = 0
    total = _first_window(symbols[:window], counts, delta)
    moved = min(stride, window)
    scale = float(window) * _SCALE
    for index in range(windows):
        if index > 0:
            start = (index - 1) * stride
            leaving = symbols[start : start + moved]
            entering = symbols[start + stride + window - moved : start + stride + window]
            for i in range(moved):
                total += _swap(leaving[i], entering[i], counts, delta)
        out[index] = float(whole - total) / scale


@compiled
def _four_sections(
    symbols: Symbols,
    section: int,
    window: int,
    stride: int,
    delta: Integers,
    whole: np.int64,
    counts: npt.NDArray[np.unsignedinteger],
    out: Bits,
) -> None:
    """Four walks in turn: while one waits for a count that it has just written, the others go on."""
    counts[:] = 0
    counts0, counts1, counts2, counts3 = counts[0], counts[1], counts[2], counts[3]
    apart, apart2, apart3 = (
        np.uint64(section * stride),
        np.uint64(2 * section * stride),
        np.uint64(3 * section * stride),
    )
    total0 = _first_window(symbols[:window], counts0, delta)
    total1 = _first_window(symbols[section * stride :][:window], counts1, delta)
    total2 = _first_window(symbols[2 * section * stride :][:window], counts2, delta)
    total3 = _first_window(symbols[3 * section * stride :][:window], counts3, delta)
    moved = min(stride, window)
    entering = np.uint64(stride + window - moved)
    scale = float(window) * _SCALE
    for index in range(section):
        if index > 0:
            leaves = np.uint64((index - 1) * stride)
            for _ in range(moved):
                enters = leaves + entering
                total0 += _swap(symbols[leaves], symbols[enters], counts0, delta)
                total1 += _swap(symbols[leaves + apart], symbols[enters + apart], counts1, delta)
                total2 += _swap(symbols[leaves + apart2], symbols[enters + apart2], counts2, delta)
                total3 += _swap(symbols[leaves + apart3], symbols[enters + apart3], counts3, delta)
                leaves += _ONE
        out[index] = float(whole - total0) / scale
        out[section + index] = float(whole - total1) / scale
        out[2 * section + index] = float(whole - total2) / scale
        out[3 * section + index] = float(whole - total3) / scale


@compiled
def _first_window(symbols: Symbols, counts: npt.NDArray[np.unsignedinteger], delta: Integers) -> np.int64:
    total = np.int64(0)
    for i in range(symbols.size):
        count = counts[symbols[i]]
        counts[symbols[i]] = count + 1
        total += delta[count]
    return total


@compiled
def _swap(leaving: np.uint8, entering: np.uint8, counts: npt.NDArray[np.unsignedinteger], delta: Integers) -> np.int64:
    """What it changes in the sum of costs that one symbol leaves the window and one enters."""
    fewer = np.uint64(counts[leaving]) - _ONE
    counts[leaving] = fewer
    before = np.uint64(counts[entering])
    counts[entering] = before + _ONE
    return np.int64(delta[before] - delta[fewer])
