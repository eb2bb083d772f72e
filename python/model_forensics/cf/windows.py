"""Where inside a site: worst token × channel windows, token profiles, entropy profiles."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from model_forensics.cf.features.scan import Found, windows_of
from model_forensics.cf.features.table import CLASSES, COLUMN, Measured, Part
from model_forensics.cf.planes import Entries, Layout
from model_forensics.cf.standardise import Reference
from model_forensics.types import Window

WINDOWS_KEPT = 3


@dataclass(frozen=True)
class SampleDetail:
    """What windows need of one sample: its measured parts and its token counts."""

    measured: Measured
    tokens: np.ndarray


@dataclass(frozen=True)
class SiteDetail:
    """One site of one sample, and its number among those that were measured together."""

    detail: SampleDetail
    site: int
    layout: Layout


def worst_windows(details: Iterable[SiteDetail], site: int, reference: Reference) -> tuple[Window, ...]:
    """The rectangles of tokens × channels that depart most, over all samples; those of one sample do not overlap.

    `bits` is the log-likelihood ratio of the rectangle against the rest; `sigma` standardises its score against the
    *largest* of benign samples, so that looking at all rectangles is accounted for. Null where the baseline has too few
    groups. Edges are exact in samples that still have their entries (`Measured.without_entries`); in others they lie on
    the grid of the scan, and there is one window a position class.
    """
    found: list[tuple[float, Window]] = []
    for sample, one in enumerate(details):
        for kind, part in zip(CLASSES, one.detail.measured.parts, strict=True):
            if part is None:
                continue
            for item in _found(part, one.site, one.layout):
                sigma = _sigma(item.score, kind, site, int(one.detail.tokens[one.site]), reference)
                rank = item.score if sigma is None else sigma
                found.append((rank, _window(item, sample, part.selection.first_row, sigma)))
    found.sort(key=lambda entry: -entry[0])
    return tuple(window for _, window in found[:WINDOWS_KEPT])


def _found(part: Part, site: int, layout: Layout) -> Sequence[Found]:
    best = part.scan.best(site)
    if best is None:
        return ()
    if not part.selection.values.size:
        return (best,)
    return windows_of(part.selection, part.coded, part.model, layout, site, WINDOWS_KEPT)


def _sigma(score: float, kind: str, site: int, tokens: int, reference: Reference) -> float | None:
    alone = _alone(reference, site, COLUMN[f"{kind}.block"])
    value = float(alone.standardise(np.array([[score]]), np.array([tokens]))[0, 0])
    return value if np.isfinite(value) else None


def _alone(reference: Reference, site: int, column: int) -> Reference:
    """Of one site and column: to standardise a whole table takes as long as to measure a recording."""
    at, sites, columns = np.ix_([site], [column]), [site], [column]
    return Reference(
        mean=reference.mean[at],
        variance=reference.variance[at],
        degrees=reference.degrees[at],
        groups=reference.groups[at],
        token_slope=reference.token_slope[columns],
        token_spread=reference.token_spread[columns],
        token_centre=reference.token_centre[sites],
        token_leverage=reference.token_leverage[sites],
    )


def _window(found: Found, sample: int, first_row: int, sigma: float | None) -> Window:
    at = found.rectangle
    return Window(
        sample=sample,
        token_start=first_row + at.token_start,
        token_stop=first_row + at.token_stop,
        channel_start=at.channel_start,
        channel_stop=at.channel_stop,
        bits=found.bits,
        sigma=sigma,
    )


def token_profiles(measured: Measured, entries: Entries) -> list[tuple[float | None, ...]]:
    """Per site, mean excess bits (magnitude and sign) of each token; null where it is absent or holds NaN or Inf."""
    starts = np.concatenate([[0], np.cumsum(entries.rows)]).astype(np.int64)
    total = np.zeros(starts[-1])
    count = np.zeros(starts[-1])
    for part in measured.parts:
        if part is not None:
            slot = starts[part.selection.site] + part.selection.row
            total += np.bincount(slot, weights=part.coded.excess, minlength=total.size)
            count += np.bincount(slot, minlength=total.size)
    bad = ~entries.finite
    count[starts[entries.site[bad]] + entries.row[bad]] = 0
    means = np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
    values = [None if np.isnan(value) else value for value in means.tolist()]
    return [tuple(values[start:stop]) for start, stop in pairwise(starts.tolist())]


def entropy_profile(measured: Measured, site: int) -> tuple[float, ...] | None:
    """Bits per symbol of each entropy window of one sample, first token first; None without a window."""
    bits: list[float] = []
    for part in measured.parts:
        if part is not None:
            start, stop = part.window_starts[site : site + 2]
            bits.extend(part.window_bits[start:stop].tolist())
    return tuple(bits) or None
