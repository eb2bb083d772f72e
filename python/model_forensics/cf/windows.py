"""Where inside a site: worst token × channel blocks, token profiles, entropy profiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from model_forensics.cf.features.codelength import BLOCK_TOKENS
from model_forensics.cf.features.table import CLASSES, COLUMN, Measured, Part
from model_forensics.cf.moments import CELLS
from model_forensics.cf.planes import Entries, Layout
from model_forensics.cf.standardise import Reference
from model_forensics.types import Window

WINDOWS_KEPT = 3


@dataclass(frozen=True)
class SampleDetail:
    """What windows need of one sample: block scores, token counts, whether tokens are finite."""

    measured: Measured
    tokens: np.ndarray


class Place(NamedTuple):
    """A block: sample, chunk of tokens, pair of channel cells."""

    sample: int
    chunk: int
    pair: int


def worst_windows(
    details: Sequence[SampleDetail], site: int, layout: Layout, reference: Reference
) -> tuple[Window, ...]:
    """The blocks with the largest excess over all samples.

    `bits` is the block's excess in bits; `sigma` standardises its score against the *largest* block of benign
    samples, so
    that looking at all blocks is accounted for. Null where the baseline has too few groups.
    """
    found: list[tuple[float, Window]] = []
    for sample, detail in enumerate(details):
        for kind, part in zip(CLASSES, detail.measured.parts, strict=True):
            if part is None:
                continue
            start, stop = part.blocks.chunk_starts[site : site + 2]
            scores = part.blocks.scores[start:stop]
            flat = np.where(np.isfinite(scores), scores, -np.inf).ravel()
            for at in np.argsort(-flat, kind="stable")[:WINDOWS_KEPT]:
                if not np.isfinite(flat[at]):
                    continue
                chunk, pair = divmod(int(at), scores.shape[1])
                sigma = _sigma(float(flat[at]), kind, site, int(detail.tokens[site]), reference)
                rank = float(flat[at]) if sigma is None else sigma
                found.append((rank, _window(Place(sample, chunk, pair), part, site, layout, float(flat[at]), sigma)))
    found.sort(key=lambda item: -item[0])
    return tuple(window for _, window in found[:WINDOWS_KEPT])


def _sigma(score: float, kind: str, site: int, tokens: int, reference: Reference) -> float | None:
    column = COLUMN[f"{kind}.block"]
    table = np.full(reference.mean.shape, np.nan)
    table[site, column] = score
    value = float(reference.standardise(table, np.full(len(table), tokens))[site, column])
    return value if np.isfinite(value) else None


def _window(at: Place, part: Part, site: int, layout: Layout, score: float, sigma: float | None) -> Window:
    first = part.selection.first_row
    rows = int(part.selection.rows[site])
    token_start = first + at.chunk * BLOCK_TOKENS
    token_stop = first + min((at.chunk + 1) * BLOCK_TOKENS, rows)
    width = layout.sites[site].features
    channel_start = -(-at.pair * width // CELLS)
    channel_stop = -(-(at.pair + 2) * width // CELLS)
    size = (token_stop - token_start) * (channel_stop - channel_start)
    return Window(
        sample=at.sample,
        token_start=token_start,
        token_stop=token_stop,
        channel_start=channel_start,
        channel_stop=channel_stop,
        bits=score * float(np.sqrt(size)),
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
