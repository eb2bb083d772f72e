"""Codelength of one sample under the baseline's predictive models: excess bits per plane, block, token and site."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from model_forensics import ops
from model_forensics.cf.moments import CELLS, LEVELS, ChannelModel
from model_forensics.cf.planes import Floats, Integers, Layout, Selection

BLOCK_TOKENS = 8
LEAST_SPREAD = 1e-2  # of the predictive variance; below it lies only rounding (a first token that never changes)


@dataclass(frozen=True)
class Blocks:
    """Mean excess over token × channel blocks.

    Attributes:
        scores: [chunks, CELLS − 1] float64, excess bits / √(tokens · channels) of each block; NaN where a block is
        empty.
        chunk_starts: [sites + 1] int64, the site's first chunk of `BLOCK_TOKENS` tokens.
    """

    scores: Floats
    chunk_starts: Integers


@dataclass(frozen=True)
class Coded:
    """One position class of one sample, coded.

    Attributes:
        excess: [entries] float64, bits of magnitude and sign over what the model expects.
        symbols: [entries] uint8, residual symbols.
        columns: name → [sites] float64, NaN where it cannot be computed.
        bits: [sites] float64, codelength of all planes, bits.
        presence_gain: [entries] float64, bits that a present entry costs more than an absent one.
    """

    excess: Floats
    symbols: npt.NDArray[np.uint8]
    columns: dict[str, Floats]
    bits: Floats
    presence_gain: Floats


def code(selection: Selection, model: ChannelModel) -> Coded:
    """Code one position class; columns `magnitude`, `scale`, `spread`, `sign`, `presence`, `redundancy`.

    `magnitude`, `sign` and `presence` are mean excess bits (per entry, per entry, per token); `scale` is the
    precision-weighted mean of log2|x| − location, in octaves; `spread` the log2 variance of standardised residuals
    around
    their own mean; `redundancy` the bits per entry that a code adapted to this very recording (Krichevsky–Trofimov)
    would save over the static one.
    """
    paid: ops.PredictiveBits = ops.predictive_bits(
        selection.values, selection.channel, selection.starts, model.predictive
    )
    tokens = np.where(selection.rows > 0, selection.rows, np.nan).astype(np.float64)
    presence = paid.gain + selection.rows * model.absent_total
    seen = selection.counts > 0
    columns = {
        "magnitude": selection.mean(paid.magnitude),
        "scale": np.divide(paid.drift, paid.precision, out=np.full(seen.shape, np.nan), where=seen),
        "spread": np.log2(selection.mean(paid.squares) + LEAST_SPREAD),
        "sign": selection.mean(paid.sign),
        "presence": presence / tokens - model.presence_expected,
        "redundancy": selection.mean(paid.static - _adaptive_bits(paid.counts)),
    }
    return Coded(paid.excess, paid.symbols, columns, paid.absolute + presence, paid.presence)


def _adaptive_bits(counts: Integers) -> Floats:
    """[sites] bits of the Krichevsky–Trofimov code of symbols with these counts, [sites, LEVELS]."""
    half = 0.5
    nats = gammaln(counts.sum(axis=1) + half * LEVELS) - gammaln(half * LEVELS)
    result: Floats = (nats - (gammaln(counts + half) - gammaln(half)).sum(axis=1)) / np.log(2)
    return result


def blocks(selection: Selection, coded: Coded, model: ChannelModel, layout: Layout) -> Blocks:
    """Excess bits of all planes on blocks of `BLOCK_TOKENS` tokens × two of `CELLS` channel cells."""
    chunks = -(-selection.rows // BLOCK_TOKENS)
    starts = np.concatenate([[0], np.cumsum(chunks)]).astype(np.int64)
    total = int(starts[-1])
    chunk = starts[selection.site] + (selection.row - selection.first_row) // BLOCK_TOKENS
    cell = model.cell[selection.channel]
    flat = np.bincount(chunk * CELLS + cell, weights=coded.excess + coded.presence_gain, minlength=total * CELLS)
    owner = np.repeat(np.arange(len(layout)), chunks)
    offset = np.arange(total) - starts[owner]
    tokens = np.minimum(selection.rows[owner] - offset * BLOCK_TOKENS, BLOCK_TOKENS)[:, None]
    sums = flat.reshape(total, CELLS) + tokens * model.cell_constant[owner]
    width = model.cell_width[owner]
    size = tokens * (width[:, 1:] + width[:, :-1])
    pair = sums[:, 1:] + sums[:, :-1]
    scores = np.divide(pair, np.sqrt(size), out=np.full(pair.shape, np.nan), where=size > 0)
    return Blocks(scores, starts)


def block_maximum(found: Blocks) -> Floats:
    """[sites] largest block score; NaN where a site has no token."""
    result = np.full(found.chunk_starts.size - 1, np.nan)
    if found.scores.size:
        best = np.nanmax(found.scores, axis=1, initial=-np.inf)
        filled = np.flatnonzero(np.diff(found.chunk_starts) > 0)
        result[filled] = np.maximum.reduceat(best, found.chunk_starts[filled])
    return np.where(np.isfinite(result), result, np.nan)
