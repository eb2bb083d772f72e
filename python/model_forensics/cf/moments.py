"""Streaming per-channel moments and the Bayesian predictive models made from them.

Per channel: Student-t on log2|x| (normal–inverse-χ² with the site as prior; Gelman et al., Bayesian Data Analysis,
§3.3), Beta–Bernoulli on the sign and on presence (a nonzero value was recorded). The strength of every prior is
estimated per site from the baseline itself (empirical Bayes by moments), so nothing here is tuned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cache, cached_property

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr  # scipy.stats has it too, and takes most of a second to load

from model_forensics import ops
from model_forensics.cf.planes import CELLS, Floats, Layout, Selection

LEVELS = 32  # residual symbols: a quarter of a predictive standard deviation each, ±4 in all
HALF_RANGE = 4.0
STEP = 2 * HALF_RANGE / LEVELS
RESOLUTION = 1 / 128  # octaves; absolute magnitude bits are stated at about bfloat16's precision
LEAST_SCALE = 0.02  # octaves; channels that spread less weigh as much in a site's mean drift
LARGEST_SQUARE = 100.0  # squared residuals beyond ten scales tell no more about the spread
SUREST = 2.0**-24  # a sign's probability stays this far from 0 and 1, as far as float32 can tell from 1
PRIOR_DEGREES = 4.0  # the site's variance counts as this many observations of a channel's
CHANNELS_AT_ONCE = 1 << 15  # sites are fitted so many together that temporary arrays stay in the cache
_PER_SITE = frozenset({"presence_expected", "absent_total", "cell_present", "cell_present_variance"})
DEGREE_CLASSES = np.array([4.0, 8.0, 16.0, 64.0])  # Student-t tables that channels share


@dataclass
class Moments:
    """Sums over recorded tokens, one position class. Adding is exact up to float64 rounding.

    Attributes:
        count, total, square, positive: [channels] float64: entries, Σ log2|x|, Σ (log2|x|)², entries above zero.
        rows: [sites] float64: tokens seen.
    """

    count: Floats
    total: Floats
    square: Floats
    positive: Floats
    rows: Floats

    @staticmethod
    def empty(layout: Layout) -> Moments:
        count, total, square, positive = (np.zeros(layout.channels) for _ in range(4))
        return Moments(count, total, square, positive, np.zeros(len(layout)))

    @staticmethod
    def unseen(layout: Layout) -> Moments:
        """Those of a class that no sample has: read-only, and no memory."""
        nothing = np.broadcast_to(np.zeros(()), (layout.channels,))
        return Moments(nothing, nothing, nothing, nothing, np.zeros(len(layout)))

    def add(self, selection: Selection) -> None:
        """Take in one sample."""
        ops.add_moments(selection.values, selection.channel, self.count, self.total, self.square, self.positive)
        self.rows += selection.rows

    def minus(self, other: Moments) -> Moments:
        return Moments(
            np.maximum(self.count - other.count, 0),
            self.total - other.total,
            self.square - other.square,
            np.maximum(self.positive - other.positive, 0),
            np.maximum(self.rows - other.rows, 0),
        )

    def of_sites(self, layout: Layout, sites: slice) -> Moments:
        """Those of some neighbouring sites, without a copy."""
        inside = slice(layout.offsets[sites.start], layout.offsets[sites.stop])
        return Moments(
            self.count[inside], self.total[inside], self.square[inside], self.positive[inside], self.rows[sites]
        )


@dataclass(frozen=True)
class ChannelModel:
    """Predictive parameters per channel, [channels] float32 unless said otherwise.

    Attributes:
        location, scale: of the Student-t on log2|x|.
        degrees: uint8, index into `DEGREE_CLASSES`.
        positive: probability of a positive sign.
        presence_gain: bits that a recorded nonzero value costs more than an absent one, log2((1 − p) / p).
        presence_expected: [sites] float64, expected presence bits of one token.
        absent_total: [sites] float64, bits of a token in which nothing is present.
        cell: [channels] uint8, the channel's cell inside its site.
        cell_present, cell_present_variance: [sites, CELLS] float64, entries present in a token: mean and variance.
    """

    location: npt.NDArray[np.float32]
    scale: npt.NDArray[np.float32]
    degrees: npt.NDArray[np.uint8]
    positive: npt.NDArray[np.float32]
    presence_gain: npt.NDArray[np.float32]
    presence_expected: Floats
    absent_total: Floats
    cell: npt.NDArray[np.uint8]
    cell_present: Floats
    cell_present_variance: Floats

    def of_sites(self, layout: Layout, sites: slice) -> ChannelModel:
        """That of some neighbouring sites, without a copy."""
        if sites == slice(0, len(layout)):
            return self
        inside = slice(layout.offsets[sites.start], layout.offsets[sites.stop])
        return ChannelModel(
            **{
                each.name: getattr(self, each.name)[sites if each.name in _PER_SITE else inside]
                for each in fields(self)
            }
        )

    @cached_property
    def predictive(self) -> ops.Predictive:
        """The part that codes entries."""
        bits, expected = cost_tables()
        return ops.Predictive(
            self.location, self.scale, self.degrees, self.positive, self.presence_gain, bits, expected,
            step=STEP, resolution=RESOLUTION, least_scale=LEAST_SCALE, largest_square=LARGEST_SQUARE,
        )  # fmt: skip


def fit_channels(moments: Moments, layout: Layout, without: Moments | None = None) -> ChannelModel:
    """The predictive models, shrunk towards the site.

    Args:
        without: part of the moments that the models must not know.
    """
    parts = []
    for sites in _runs_of_sites(layout):
        part = moments.of_sites(layout, sites)
        if without is not None:
            part = part.minus(without.of_sites(layout, sites))
        inside = slice(layout.offsets[sites.start], layout.offsets[sites.stop])
        parts.append(_fit_sites(part, Layout(layout.sites[sites]), layout.cells[inside]))
    joined = (np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(ChannelModel))
    return ChannelModel(*joined)


def _runs_of_sites(layout: Layout) -> Iterator[slice]:
    """Neighbouring sites of at most `CHANNELS_AT_ONCE` channels together, or a single larger one."""
    first = 0
    for site in range(1, len(layout) + 1):
        if site == len(layout) or layout.offsets[site + 1] - layout.offsets[first] > CHANNELS_AT_ONCE:
            yield slice(first, site)
            first = site


def _fit_sites(moments: Moments, layout: Layout, cell: npt.NDArray[np.uint8]) -> ChannelModel:
    offsets, widths = layout.offsets[:-1], layout.features
    count = moments.count

    def per_site(values: Floats) -> Floats:
        return np.add.reduceat(values, offsets)

    def spread(values: Floats) -> Floats:
        return np.repeat(values, widths)

    seen, some, least_one = per_site(count), count > 0, np.maximum(count, 1)
    mean = moments.total / least_one
    scatter = np.maximum(moments.square - count * mean**2, 0.0)
    free = np.maximum(count - 1, 0)
    site_mean = per_site(moments.total) / np.maximum(seen, 1)
    between = np.where(some, (mean - spread(site_mean)) ** 2, 0.0)
    channels_seen = np.maximum(per_site(some.astype(np.float64)), 1)
    total_variance = np.maximum(per_site(moments.square) / np.maximum(seen, 1) - site_mean**2, 1e-6)
    within_free = per_site(free)
    # Two pseudo-observations of the total variance keep this defined where no channel was seen twice.
    within = (per_site(scatter) + 2 * total_variance) / (within_free + 2)
    inverse_count = per_site(np.where(some, 1 / least_one, 0.0)) / channels_seen
    channel_variance = np.maximum(per_site(between) / channels_seen - within * inverse_count, 0.05 * within)
    strength = spread(within / channel_variance)
    location = (moments.total + strength * spread(site_mean)) / (count + strength)
    pulled = count * strength / np.maximum(count + strength, 1e-12) * between
    degrees = PRIOR_DEGREES + count
    variance = (scatter + PRIOR_DEGREES * spread(within) + pulled * free / (free + 1)) / degrees
    scale = np.sqrt(np.maximum(variance * (1 + 1 / (count + strength)), 1e-8))
    classes = sum((degrees > edge).astype(np.uint8) for edge in DEGREE_CLASSES[:-1] * 1.5)
    positive = _sign(moments, per_site, spread)
    present = _presence(moments, layout, per_site, spread)
    absent, recorded = -np.log2(1 - present), -np.log2(present)  # bits
    entropy = present * recorded + (1 - present) * absent
    # Where every channel was always present, an all-present token costs just what is expected, whatever the sample
    # size.
    always = spread((per_site(count) >= moments.rows * widths).astype(np.float64)) > 0
    surprise = np.where(always, recorded, entropy)
    slots = cell.astype(np.int64) + np.repeat(np.arange(len(layout)) * CELLS, widths)
    return ChannelModel(
        location.astype(np.float32),
        scale.astype(np.float32),
        np.asarray(classes, dtype=np.uint8),
        np.clip(positive, SUREST, 1 - SUREST).astype(np.float32),
        (recorded - absent).astype(np.float32),  # from float64: 1 − p cancels in float32
        per_site(surprise),
        per_site(absent),
        cell,
        _per_cell(slots, present, len(layout)),
        _per_cell(slots, present * (1 - present), len(layout)),
    )


def _per_cell(slots: npt.NDArray[np.int64], values: Floats, sites: int) -> Floats:
    result: Floats = np.bincount(slots, weights=values, minlength=sites * CELLS).astype(np.float64).reshape(-1, CELLS)
    return result


PerChannel = Callable[[Floats], Floats]


def _sign(moments: Moments, per_site: PerChannel, spread: PerChannel) -> Floats:
    count, up = moments.count, moments.positive
    down = count - up
    pairs = per_site(count * np.maximum(count - 1, 0))
    agree = per_site(up * np.maximum(up - 1, 0) + down * np.maximum(down - 1, 0))
    # Two draws of one channel agree with probability 1 − a/(2a + 1) under Beta(a, a).
    share = (agree + 1) / (pairs + 2)
    weight = np.clip((1 - share) / np.maximum(2 * share - 1, 0.01), 0.05, 50.0)
    spread_weight = spread(weight)
    result: Floats = (up + spread_weight) / (count + 2 * spread_weight)
    return result


def _presence(moments: Moments, layout: Layout, per_site: PerChannel, spread: PerChannel) -> Floats:
    count, rows, widths = moments.count, moments.rows, layout.features
    share = (per_site(count) + 0.5) / (rows * widths + 1)
    both = per_site(count * np.maximum(count - 1, 0)) / np.maximum(rows * (rows - 1) * widths, 1)
    noise = share * (1 - share)
    # E[p²] = π² + π(1 − π)/(m + 1) under Beta(πm, (1 − π)m).
    weight = np.where(rows > 1, np.clip(noise / np.maximum(both - share**2, 1e-9 + noise / 200) - 1, 0.1, 200.0), 1.0)
    spread_weight = spread(weight)
    result: Floats = (count + spread_weight * spread(share)) / (spread(rows) + spread_weight)
    return np.clip(result, 1e-6, 1 - 1e-6)


@cache
def cost_tables() -> tuple[Floats, Floats]:
    """Bits per residual symbol for each class of degrees, and their expectation: [classes, LEVELS], [classes]."""
    edges = np.linspace(-HALF_RANGE, HALF_RANGE, LEVELS + 1)
    edges[0], edges[-1] = -np.inf, np.inf
    probability = np.stack([np.diff(stdtr(degrees, edges)) for degrees in DEGREE_CLASSES])
    bits = -np.log2(probability)
    return bits, (probability * bits).sum(axis=1)
