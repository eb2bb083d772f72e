"""Codelength of one sample under the baseline's predictive models: excess bits per plane, token and site."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from model_forensics import ops
from model_forensics.cf.moments import LEVELS, RESOLUTION, STEP, ChannelModel, cost_tables
from model_forensics.cf.planes import Floats, Integers, Selection

LEAST_SPREAD = 1e-2  # of the predictive variance; below it lies only rounding (a first token that never changes)

cached_tables = cache(cost_tables)


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


def residual_symbols(selection: Selection, model: ChannelModel) -> npt.NDArray[np.uint8]:
    """[entries] uint8: log2|x| in quarters of the channel's predictive scale around its location, `LEVELS` of them."""
    if selection.values.size == 0:
        return np.zeros(0, dtype=np.uint8)
    location, scale = model.location[selection.channel], model.scale[selection.channel]
    low = (location - np.float32(LEVELS / 2 * STEP) * scale).astype(np.float32)
    step = (np.float32(STEP) * scale).astype(np.float32)
    symbols = ops.quantize(selection.values[None, :], ops.Grid("log", LEVELS, low, step))
    result: npt.NDArray[np.uint8] = np.asarray(symbols).reshape(-1)
    return result


def code(selection: Selection, model: ChannelModel) -> Coded:
    """Code one position class; columns `magnitude`, `scale`, `spread`, `sign`, `presence`, `redundancy`.

    `magnitude`, `sign` and `presence` are mean excess bits (per entry, per entry, per token); `scale` is the
    precision-weighted mean of log2|x| − location, in octaves; `spread` the log2 variance of standardised residuals
    around
    their own mean; `redundancy` the bits per entry that a code adapted to this very recording (Krichevsky–Trofimov)
    would save over the static one.
    """
    tables, expected = cached_tables()
    channel = selection.channel
    symbols = residual_symbols(selection, model)
    degrees = model.degrees[channel]
    magnitude = tables.ravel()[degrees.astype(np.int64) * LEVELS + symbols]
    scale = model.scale[channel].astype(np.float64)
    difference = selection.log_magnitude - model.location[channel]
    precision = 1 / np.maximum(scale, 0.02) ** 2
    up = model.positive[channel].astype(np.float64)
    sign_bits = -np.log2(np.where(selection.values > 0, up, 1 - up))
    sign_expected = -(up * np.log2(up) + (1 - up) * np.log2(1 - up))
    gain = model.presence_gain[channel].astype(np.float64)
    sites, count = selection.rows.size, selection.counts
    weight = np.bincount(selection.site, weights=precision, minlength=sites)
    drift = np.divide(
        np.bincount(selection.site, weights=precision * difference, minlength=sites),
        weight,
        out=np.full(sites, np.nan),
        where=weight > 0,
    )
    residual = (difference - np.nan_to_num(drift)[selection.site]) / scale
    tokens = np.where(selection.rows > 0, selection.rows, np.nan).astype(np.float64)
    presence = np.bincount(selection.site, weights=gain, minlength=sites) + selection.rows * model.absent_total
    presence_excess = presence / tokens - model.presence_expected
    magnitude_excess = magnitude - expected[degrees]
    sign_excess = sign_bits - sign_expected
    columns = {
        "magnitude": selection.mean(magnitude_excess),
        "scale": drift,
        "spread": np.log2(selection.mean(np.minimum(residual**2, 100.0)) + LEAST_SPREAD),
        "sign": selection.mean(sign_excess),
        "presence": presence_excess,
        "redundancy": _redundancy(selection.site, symbols, magnitude, count),
    }
    absolute = magnitude + np.log2(STEP * scale / RESOLUTION)
    bits = np.bincount(selection.site, weights=absolute + sign_bits, minlength=sites) + presence
    return Coded(magnitude_excess + sign_excess, symbols, columns, bits, gain)


def _redundancy(site: Integers, symbols: npt.NDArray[np.uint8], bits: Floats, count: Floats) -> Floats:
    sites = count.size
    counts = np.bincount(site * LEVELS + symbols, minlength=sites * LEVELS).reshape(sites, LEVELS)
    half = 0.5
    adaptive = (
        gammaln(count + half * LEVELS) - gammaln(half * LEVELS) - (gammaln(counts + half) - gammaln(half)).sum(axis=1)
    ) / np.log(2)
    static = np.bincount(site, weights=bits, minlength=sites)
    result: Floats = np.divide(static - adaptive, count, out=np.full(sites, np.nan), where=count > 0)
    return result
