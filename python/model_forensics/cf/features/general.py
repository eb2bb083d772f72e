"""General-purpose codes of a site's raw values: zlib, gzip, and Shannon entropy over windows of symbols."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from model_forensics import ops
from model_forensics.cf.planes import Entries, Floats, Selection

MAX_BYTES = 1 << 20  # per site; a prefix of larger sites is compressed, and bits are per value of that prefix

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "zlib": lambda data: zlib.compress(data, 6),
    "gzip": lambda data: gzip.compress(data, 9, mtime=0),
}


def compressed_bits(entries: Entries, method: str) -> Floats:
    """[sites] bits per recorded value of the float32 bytes; NaN for sites without values. NaN and Inf become 0."""
    compress = COMPRESSORS[method]
    result = np.full(entries.rows.size, np.nan)
    values = np.where(entries.finite, entries.values, np.float32(0))
    for site, (start, stop) in enumerate(zip(entries.starts[:-1], entries.starts[1:], strict=True)):
        taken = min(int(stop - start), MAX_BYTES // 4)
        if taken:
            result[site] = 8 * len(compress(values[start : start + taken].tobytes())) / taken
    return result


def window_entropies(
    selection: Selection, symbols: npt.NDArray[np.uint8], window: int
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Entropy of each window of residual symbols (16-symbol alphabet: half a predictive scale each).

    Returns:
        ([windows] bits per symbol, all sites in order; [sites + 1] int64 where each site's windows begin). Sites with
        fewer
        symbols than `window` have none.
    """
    counts = selection.counts.astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    stride = window_stride(window)
    windows = np.where(counts < window, 0, (counts - window) // stride + 1)
    starts = np.concatenate([[0], np.cumsum(windows)]).astype(np.int64)
    if starts[-1] == 0:
        return np.zeros(0), starts
    bits = ops.entropy_windows(
        (symbols >> 1).astype(np.uint8), window=window, stride=stride, alphabet=16, offsets=offsets
    )
    return np.asarray(bits, dtype=np.float64), starts


def window_stride(window: int) -> int:
    return max(1, window // 4)


def entropy_columns(bits: Floats, starts: npt.NDArray[np.int64]) -> dict[str, Floats]:
    """`entropy` (mean of the site's windows), `entropy_low`, `entropy_high` (extremes), bits; NaN without windows."""
    sites = starts.size - 1
    filled = np.flatnonzero(np.diff(starts) > 0)
    result = {name: np.full(sites, np.nan) for name in ("entropy", "entropy_low", "entropy_high")}
    if filled.size:
        first = starts[filled]
        result["entropy"][filled] = np.add.reduceat(bits, first) / np.diff(starts)[filled]
        result["entropy_low"][filled] = np.minimum.reduceat(bits, first)
        result["entropy_high"][filled] = np.maximum.reduceat(bits, first)
    return result
