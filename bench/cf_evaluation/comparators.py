"""What a reader would otherwise reach for, each fitted on the same recordings: a score per site, large is odd.

All four end as a z-score over the baseline, so that sites can be ranked against each other. The two distances are
standardised by the distances of baseline recordings to the rest of the baseline, their own group left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

Entry = tuple[np.ndarray, np.ndarray, int]  # values, channels, width of one site
NAMES = ("zlib", "histogram", "mahalanobis", "knn")
BINS = 64
NEIGHBOURS = 5
RIDGE = 0.1  # of the site's mean channel variance, added to every channel's


def summaries(entry: Entry) -> np.ndarray:
    """[2] zlib bits per value of the float32 bytes; bits of the histogram of values. Neither needs a baseline."""
    values = np.nan_to_num(entry[0], posinf=0.0, neginf=0.0)
    counts, _ = np.histogram(values, bins=BINS)
    share = counts[counts > 0] / values.size
    return np.array([8 * len(zlib.compress(values.tobytes(), 6)) / values.size, -(share * np.log2(share)).sum()])


class SiteComparators:
    """Fitted on one site of a baseline's recordings."""

    def __init__(self, entries: Sequence[Entry], groups: Sequence[str]) -> None:
        rows = np.zeros((len(entries), entries[0][2]))
        for row, (values, channels, _) in zip(rows, entries, strict=True):
            row[channels] = np.nan_to_num(values)
        self._all = _Distances(rows)
        owner = np.array(groups)
        own = np.zeros((len(rows), 2))
        for group in np.unique(owner):
            rest = _Distances(rows[owner != group])
            for number in np.flatnonzero(owner == group):
                own[number] = rest(entries[number])
        simple = np.stack([summaries(entry) for entry in entries])
        self._mean = np.concatenate([simple.mean(axis=0), own.mean(axis=0)])
        self._spread = np.maximum(np.concatenate([simple.std(axis=0, ddof=1), own.std(axis=0, ddof=1)]), 1e-6)

    def scores(self, entry: Entry, simple: np.ndarray) -> np.ndarray:
        """[4] in the order of `NAMES`; `simple` are the entry's `summaries`. Codes count both ways, distances up."""
        z: np.ndarray = (np.concatenate([simple, self._all(entry)]) - self._mean) / self._spread
        z[:2] = np.abs(z[:2])
        return z


class _Distances:
    """Distances of a sparse entry to dense baseline rows [recordings, width]; absent is zero."""

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows
        self._square = (rows**2).sum(axis=1)
        self._mean = rows.mean(axis=0)
        variance = rows.var(axis=0)
        self._precision = 1 / (variance + RIDGE * max(float(variance.mean()), 1e-12))
        self._empty = float((self._precision * self._mean**2).sum())

    def __call__(self, entry: Entry) -> np.ndarray:
        """[2] diagonal Mahalanobis distance; mean distance to the nearest recordings."""
        values, channels = np.nan_to_num(entry[0]).astype(np.float64), entry[1]
        precision, mean = self._precision[channels], self._mean[channels]
        change = (precision * ((values - mean) ** 2 - mean**2)).sum()
        squares = (values**2).sum() + self._square - 2 * self._rows[:, channels] @ values
        nearest = np.sqrt(np.maximum(np.sort(squares)[:NEIGHBOURS], 0.0))
        return np.array([np.sqrt(max(self._empty + change, 0.0)), nearest.mean()])
