"""Distribution shape of a site's values without a model: distinct values, mantissa, saturation, quantiles."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from model_forensics.cf.planes import Floats, Integers, Selection

VALUES_LOOKED_AT = 65_536  # per site; more are thinned evenly
LOW_MANTISSA = np.uint32(0xFFFF)  # float32 bits below bfloat16's mantissa


def shape_columns(selection: Selection) -> dict[str, Floats]:
    """Columns, each [sites] float64, NaN where a site has no finite nonzero value.

    `distinct`: distinct values / values. `low_mantissa`: share of values with a set bit below bfloat16's mantissa.
    `saturated`: share at the largest magnitude.
    `repeated`: share of the most frequent value (stuck units). `top`, `upper`, `lower`: largest magnitude, 90 % and
    10 % quantile of
    magnitude over the median, octaves. `zero`: zeros among recorded entries.
    """
    values, site = thin(selection)
    sites = selection.rows.size
    count = np.bincount(site, minlength=sites)
    bits = np.ascontiguousarray(values).view(np.uint32)
    magnitude = (bits & np.uint32(0x7FFFFFFF)).astype(np.uint64)
    # One sort serves all sites: site, then magnitude, then sign.
    key = (site.astype(np.uint64) << np.uint64(33)) | (magnitude << np.uint64(1)) | (bits >> np.uint32(31))
    key.sort()
    filled = count > 0
    starts = np.concatenate([[0], np.cumsum(count)])[:-1]
    new = np.ones(key.size, dtype=bool)
    new[1:] = key[1:] != key[:-1]
    ordered = (key >> np.uint64(1)).astype(np.uint32) & np.uint32(0x7FFFFFFF)

    def share(flags: np.ndarray, where: np.ndarray) -> Floats:
        total = np.bincount(where, weights=flags, minlength=sites)
        result: Floats = np.divide(total, count, out=np.full(sites, np.nan), where=filled)
        return result

    def quantile(level: float) -> Floats:
        position = starts + np.floor(level * (np.maximum(count, 1) - 1)).astype(np.int64)
        result = np.full(sites, np.nan)
        magnitude = ordered[position[filled]].view(np.float32)
        # A quantile of exact zeros has no logarithm: not measured.
        result[filled] = np.log2(magnitude, out=np.full(magnitude.shape, np.nan), where=magnitude > 0)
        return result

    top = np.zeros(sites, dtype=np.uint32)
    top[filled] = ordered[(starts + count - 1)[filled]]
    ordered_site = np.repeat(np.arange(sites), count)
    median = quantile(0.5)
    recorded = selection.recorded
    return {
        "distinct": share(new, ordered_site),
        "low_mantissa": share((bits & LOW_MANTISSA) != 0, site),
        "saturated": share(ordered == top[ordered_site], ordered_site),
        "repeated": _most_frequent(new, ordered_site, filled) / np.where(filled, count, np.nan),
        "zero": np.divide(selection.zeros, recorded, out=np.full(sites, np.nan), where=recorded > 0),
        "top": quantile(1.0) - median,
        "upper": quantile(0.9) - median,
        "lower": quantile(0.1) - median,
    }


def _most_frequent(new: npt.NDArray[np.bool_], site: Integers, filled: npt.NDArray[np.bool_]) -> Floats:
    """[sites] how often each site's most frequent value occurs; `new` marks where a run of equal values begins."""
    result = np.zeros(filled.size)
    first = np.flatnonzero(new)
    if first.size:
        lengths = np.diff(np.append(first, new.size))
        np.maximum.at(result, site[first], lengths)
    return result


def thin(selection: Selection) -> tuple[np.ndarray, np.ndarray]:
    """Values and sites, at most `VALUES_LOOKED_AT` per site, evenly spaced."""
    counts = selection.counts.astype(np.int64)
    if counts.max(initial=0) <= VALUES_LOOKED_AT:
        return selection.values, selection.site
    stride = -(-counts // VALUES_LOOKED_AT)
    starts = np.concatenate([[0], np.cumsum(counts)])[:-1]
    keep = (np.arange(selection.site.size) - starts[selection.site]) % stride[selection.site] == 0
    return selection.values[keep], selection.site[keep]
