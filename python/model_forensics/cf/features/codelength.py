"""Codelength of one sample under the baseline's predictive models: excess bits per plane, token and site."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from model_forensics import ops
from model_forensics.cf.moments import LEVELS, ChannelModel
from model_forensics.cf.planes import Floats, Integers, Selection

HALF = 0.5  # what each symbol counts before any is seen (Krichevsky–Trofimov)
COUNTED = 1 << 14  # log Γ is kept for counts below
LEAST_SPREAD = 1e-2  # of the predictive variance; below it lies only rounding (a first token that never changes)


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
    nats = gammaln(counts.sum(axis=1) + HALF * LEVELS) - gammaln(HALF * LEVELS)
    most = int(counts.max(initial=0))
    of_counts = _log_gammas()[counts] if most < COUNTED else gammaln(counts + HALF)
    result: Floats = (nats - (of_counts - gammaln(HALF)).sum(axis=1)) / np.log(2)
    return result


@cache
def _log_gammas() -> Floats:
    """[COUNTED] log Γ(n + ½), computed once for all sites and samples."""
    result: Floats = gammaln(np.arange(COUNTED) + HALF)
    return result
