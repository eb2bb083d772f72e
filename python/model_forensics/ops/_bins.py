"""Sums of entries, or of their distances from where they belong, over bins."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from model_forensics.errors import UsageError
from model_forensics.ops import _check, _dispatch

Bits = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


class Distance(NamedTuple):
    """What stands for an entry x in place of itself: min(|x − centre| / spread, limit).

    Attributes:
        centre: [bins] float64.
        spread: [sites] float64, above 0.
        limit: at least 0.
    """

    centre: Bits
    spread: Bits
    limit: float


class BinSums(NamedTuple):
    """Sums of terms.

    Attributes:
        total: [bins] float64, sums over the entries of each bin.
        squares: [sites] float64, sums of squares over the entries of each site.
    """

    total: Bits
    squares: Bits


def bin_sums(
    x: Bits, bins: Counts, starts: Counts, *, count: int, distance: Distance | None = None, backend: str = "auto"
) -> BinSums:
    """Sums over bins and sites in one pass. Terms are added entry by entry: every backend gives the same bits.

    Args:
        x: [entries] float64, the entries of all sites one after the other.
        bins: [entries] int64, the bin of each, numbered through all sites.
        starts: [sites + 1] int64, where each site's entries begin.
        count: number of bins.
        distance: how far each entry lies from its bin's centre is added, not the entry.
        backend: "auto" or the name of a backend.

    Raises:
        UsageError: an argument is not as above.
        BackendUnavailable: the backend cannot serve.
    """
    op = "bin_sums"
    choice = _dispatch.select(op, x, backend)
    terms: Bits = _check.array(op, "x", x, np.float64, 1)
    count = _check.integer(op, "count", count, 0, np.iinfo(np.int32).max)
    numbers = _check.indices(op, "bins", bins, terms.size, count)
    offsets = _check.row_offsets(op, starts, terms.size)
    sites = offsets.size - 1
    centre, spread, limit = _distance(op, distance, count, sites)
    total, squares = np.empty(count), np.empty(sites)
    choice.module.bin_sums(terms, numbers, offsets, centre, spread, limit, total, squares)
    _dispatch.record(choice)
    return BinSums(total, squares)


def _distance(op: str, distance: Any, count: int, sites: int) -> tuple[Bits, Bits, float]:
    """What backends take; without a spread, entries are added themselves."""
    if distance is None:
        return np.zeros(0), np.zeros(0), 0.0
    centre: Bits = _check.array(op, "distance.centre", distance.centre, np.float64, 1, (count,))
    spread: Bits = _check.array(op, "distance.spread", distance.spread, np.float64, 1, (sites,))
    if not ((spread > 0).all() and distance.limit >= 0):  # NaN compares false
        raise UsageError(
            "a spread is not above 0, or the limit is below 0", where=op, cure="Pass spreads above 0 and a limit"
        )
    return centre, spread, float(distance.limit)
