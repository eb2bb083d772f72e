"""Evidence of a fault per bin of tokens × channels: sums that are zero on average in benign recordings.

Five planes look at different ways of being wrong; each has a sum and a variance per bin, so rectangles of bins can be
judged by adding:

- magnitude: standardised residuals of log2|x|, for values that are too large or too small;
- spread: their absolute value, for values that scatter more or less than the rest of the site;
- step: log2 of the relative change from the token before, for values that stand still (stuck, averaged, repeated);
- sign: log odds of the sign under the baseline;
- presence: entries absent (or zero) that should be there, or the other way round.

Benign runs differ as a whole: tokens are louder or quieter, channels are busier in one text than in another. In all
planes but the last, such token and channel effects are the random effects of a two-way layout, and the sums are those
of its generalised least squares (`_whiten`). Presence has none, because zeros are rare where nothing is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from model_forensics import ops
from model_forensics.cf.moments import HALF_RANGE, LEVELS, STEP, ChannelModel
from model_forensics.cf.planes import Floats, Integers, Selection

CLIP = 3.0  # predictive standard deviations; log2|x| has a long tail towards zero
STILL = 2.0**-6  # relative change at and below which a value counts as standing still
LEAST_VARIANCE = 0.01  # of one entry in any plane; below it lies only rounding
SIGN_CERTAINTY = 0.95  # no sign counts as surer than this
SIGN_BOUND = float(np.log(SIGN_CERTAINTY / (1 - SIGN_CERTAINTY)) * SIGN_CERTAINTY)  # largest term of the sign plane
HALF_AN_ENTRY = 0.5
IMPUTATIONS = 5
CHI_SQUARE_MEDIAN = 0.455  # with one degree of freedom

RESIDUALS = np.clip((np.arange(LEVELS) + 0.5) * STEP - HALF_RANGE, -CLIP, CLIP)  # of each residual symbol


@dataclass(frozen=True)
class Grid:
    """Bins of sites that have equally many tokens.

    Attributes:
        sites: [sites] consecutive numbers, as far as entries go.
        tokens: [bins + 1] edges in rows of the position class.
        channels: [sites, cells + 1] edges in channels of the site; cells of narrow sites may be empty.
        first: [sites] global number of the site's first channel.
        cell: [entries of the sites] cell of each entry.
        present, present_variance: [sites, cells] entries that the baseline expects in a token, and their variance.
    """

    sites: Integers
    tokens: Integers
    channels: Integers
    first: Integers
    cell: Integers
    present: Floats
    present_variance: Floats


class Rectangle(NamedTuple):
    """Rows of the position class and channels of the site, half open."""

    token_start: int
    token_stop: int
    channel_start: int
    channel_stop: int


class Plane(NamedTuple):
    """Sums of one kind of evidence.

    Attributes:
        total, variance: [sites, bins, cells].
        row, column, both: [sites] how much of the token, channel and common effects was taken away (`_whiten`).
        bound: the largest possible term of an entry, where terms are those of rare events; 0 for about normal ones.
        steps: a rectangle holds the terms of its tokens but the first, because they look at the token before.
    """

    total: Floats
    variance: Floats
    row: Floats
    column: Floats
    both: Floats
    bound: float = 0.0
    steps: bool = False


def gather(
    selection: Selection,
    entries: slice,
    symbols: np.ndarray,
    model: ChannelModel,
    grid: Grid,
    taken: Sequence[Rectangle] = (),
) -> list[Plane]:
    """The planes that say anything about these sites.

    Args:
        entries: those of `grid.sites`.
        symbols: [all entries], `Coded.symbols`.
        taken: of the only site; what lies inside is treated as unknown: it is no evidence, and has no say in what
            tokens and channels are like.
    """
    values, channel = selection.values[entries], selection.channel[entries]
    row = selection.row[entries] - selection.first_row
    starts = np.append(selection.starts[grid.sites], entries.stop) - entries.start
    shape = grid.sites.size, grid.tokens.size - 1, grid.channels.shape[1] - 1
    slot = grid.cell + np.repeat(np.arange(shape[0]) * (shape[1] * shape[2]), np.diff(starts))
    if shape[1] > 1:
        bin_of_row = np.repeat(np.arange(shape[1]), np.diff(grid.tokens))
        slot += bin_of_row[row] * shape[2]
    unknown = _inside(row, channel - grid.first[0], taken) if taken else None
    sums = _Sums(starts, slot, unknown, shape)

    residual = RESIDUALS.take(symbols[entries])
    magnitude, shift, spread = sums.plane(residual)
    scattered = sums.plane(residual, ops.Distance(shift.ravel(), spread, CLIP), centre=True)[0]
    planes = [magnitude, scattered]
    if grid.tokens[-1] > 1:
        place = np.repeat(np.arange(shape[0]), np.diff(starts))
        change, has_before = _changes(values, row, channel, place, grid.channels[:, -1])
        some = _starts_of_some(starts, has_before)
        steps = _Sums(some, slot[has_before], None if unknown is None else unknown[has_before], shape)
        planes.append(steps.plane(change[has_before], centre=True)[0]._replace(steps=True))
    planes.append(sums.plane(_surprise(values, model.positive.take(channel)))[0]._replace(bound=SIGN_BOUND))
    planes.extend(_presence(sums.count + sums.missing, grid, taken))
    return planes


def _surprise(values: npt.NDArray[np.float32], positive: npt.NDArray[np.float32]) -> Floats:
    """[entries] log odds of a positive sign, times how much less of it there was than expected."""
    up = np.clip(positive, 1 - SIGN_CERTAINTY, SIGN_CERTAINTY)
    surprise: npt.NDArray[np.float32] = np.log(up / (1 - up)) / 2 * (2 * up - 1 - np.sign(values))
    return surprise.astype(np.float64)


def _starts_of_some(starts: Integers, chosen: npt.NDArray[np.bool_]) -> Integers:
    """[sites + 1] where each site's entries begin among the chosen ones, from where they begin among all."""
    return np.append(0, np.cumsum(chosen))[starts]


def _inside(row: Integers, column: Integers, rectangles: Sequence[Rectangle]) -> npt.NDArray[np.bool_]:
    """[entries] whether they lie in any of the rectangles."""
    result = np.zeros(row.size, dtype=bool)
    for top, bottom, left, right in rectangles:
        result |= (row >= top) & (row < bottom) & (column >= left) & (column < right)
    return result


class _Sums:
    """Sums of per-entry terms over bins.

    Attributes:
        count, missing: [sites, bins, cells] entries with known and with unknown terms.
    """

    def __init__(
        self, starts: Integers, slot: Integers, unknown: npt.NDArray[np.bool_] | None, shape: tuple[int, int, int]
    ) -> None:
        self.shape = shape
        self.bins = int(np.prod(shape))
        self.known: slice | npt.NDArray[np.bool_] = slice(None) if unknown is None else ~unknown
        self.starts = starts if unknown is None else _starts_of_some(starts, ~unknown)
        self.slot = slot[self.known]
        self.count = self._entries(self.slot)
        self.missing = np.zeros(shape) if unknown is None else self._entries(slot) - self.count

    def _entries(self, slot: Integers) -> Floats:
        return np.bincount(slot, minlength=self.bins).reshape(self.shape).astype(np.float64)

    def plane(
        self, terms: Floats, distance: ops.Distance | None = None, centre: bool = False
    ) -> tuple[Plane, Floats, Floats]:
        """The plane of terms whose spread is measured in this very site.

        Args:
            terms: [entries], known and unknown.
            distance: terms are how far these lie from their bins' centres.
            centre: take the site's mean away, where no model says what it should be.

        Returns:
            (plane, [sites, bins, cells] what was taken away from each entry, [sites] standard deviation of the rest).
        """
        sums = ops.bin_sums(terms[self.known], self.slot, self.starts, count=self.bins, distance=distance)
        total, count = sums.total.reshape(self.shape), self.count
        seen = np.maximum(count.sum(axis=(1, 2)), 1)
        mean = total.sum(axis=(1, 2)) / seen if centre else np.zeros(self.shape[0])
        total -= mean[:, None, None] * count
        square = sums.squares - seen * mean**2
        variance = np.maximum(_residual_variance(total, count, square), LEAST_VARIANCE)[:, None, None]
        plane, effect = _whiten(total, count * variance)
        for _ in range(IMPUTATIONS if self.missing.any() else 0):
            # A two-way layout with holes has no closed form; what is unknown is as its token and channel let expect.
            plane, effect = _whiten(total + self.missing * variance * effect, (count + self.missing) * variance)
        return plane, mean[:, None, None] + effect * variance, np.sqrt(variance[:, 0, 0])


def _residual_variance(total: Floats, count: Floats, square: Floats) -> Floats:
    """[sites] variance of an entry that token and channel effects leave."""
    rest, free = square, count.sum(axis=(1, 2))
    for axis in (2, 1) if total.shape[1] > 1 else (2,):
        inside = count.sum(axis=axis)
        rest = rest - (total.sum(axis=axis) ** 2 / np.maximum(inside, 1)).sum(axis=1)
        free = free - (inside > 0).sum(axis=1)
    if total.shape[1] > 1:
        rest = rest + total.sum(axis=(1, 2)) ** 2 / np.maximum(count.sum(axis=(1, 2)), 1)
        free = free + 1
    result: Floats = rest / np.maximum(free, 1)
    return result


def _whiten(total: Floats, variance: Floats) -> tuple[Plane, Floats]:
    """Generalised least squares of a two-way layout: total − variance · (predicted token, channel and common effects).

    Effects are shrunk by how much tokens (channels) differ beyond chance. One token alone has no others to differ from:
    its level is taken away altogether, and its channels are compared with one another.

    Returns:
        (plane, [sites, bins, cells] the effects, in units of the variance of one entry).
    """
    whole = _ratio(total.sum(axis=(1, 2)), variance.sum(axis=(1, 2)))
    if total.shape[1] == 1:
        none = np.zeros_like(whole)
        effect = np.broadcast_to(whole[:, None, None], total.shape)
        return Plane(total - variance * effect, variance, none + 1, none, none), effect
    row, row_effect = _shrink(total.sum(axis=2), variance.sum(axis=2))
    column, column_effect = _shrink(total.sum(axis=1), variance.sum(axis=1))
    both = 1 / (1 / (1 - row) + 1 / (1 - column) - 1) - 1 + row + column
    effect = (
        (row[:, None] * row_effect)[:, :, None]
        + (column[:, None] * column_effect)[:, None, :]
        - (both * whole)[:, None, None]
    )
    return Plane(total - variance * effect, variance, row, column, both), effect


def _shrink(total: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """[sites] share of the observed effects that is real, and the effects [sites, bins], from sums along an axis.

    By moments (DerSimonian and Laird 1986, Controlled Clinical Trials 7). Outliers count in full: single tokens with a
    level of their own, such as separators, are common in benign runs.
    """
    effect = _ratio(total, variance)
    mass = variance.sum(axis=1)
    members = np.maximum((variance > 0).sum(axis=1), 1)
    mean = _ratio(total.sum(axis=1), mass)
    excess = (variance * (effect - mean[:, None]) ** 2).sum(axis=1) - (members - 1)
    between = np.maximum(_ratio(excess, mass - _ratio((variance**2).sum(axis=1), mass)), 0.0)
    typical = between * mass / members
    return typical / (1 + typical), effect


def _median(values: Floats, seen: npt.NDArray[np.bool_]) -> Floats:
    """[sites] lower median over what was seen of [sites, bins]."""
    ordered = np.sort(np.where(seen, values, np.inf), axis=1)
    middle = np.maximum(seen.sum(axis=1) - 1, 0) // 2
    result: Floats = np.where(seen.any(axis=1), ordered[np.arange(len(ordered)), middle], 0.0)
    return result


def _ratio(above: Floats, below: Floats) -> Floats:
    result: Floats = np.divide(above, below, out=np.zeros(np.shape(above)), where=below > 1e-12)
    return result


def _changes(
    values: np.ndarray, row: Integers, channel: Integers, place: Integers, features: Integers
) -> tuple[Floats, np.ndarray]:
    """[entries] log2 of |x − y| / (|x| + |y|), y the same channel one token before, and where there is such a y."""
    # Entries come site by site, row by row, channels ascending, so these keys ascend.
    width = int(channel.max(initial=0)) + 1
    key = (place * (int(row.max(initial=0)) + 2) + row + 1) * width + channel
    at = np.maximum(np.arange(key.size) - features[place], 0)  # right wherever the site is recorded whole
    known = key[at] == key - width
    unsure = np.flatnonzero(~known & (row > 0))
    at[unsure] = np.searchsorted(key, key[unsure] - width)
    known[unsure] = key[at[unsure]] == key[unsure] - width
    before = values[at].astype(np.float64)
    now = values.astype(np.float64)
    relative = np.abs(now - before) / (np.abs(now) + np.abs(before))
    return np.log2(np.maximum(relative, STILL)), known


def _presence(count: Floats, grid: Grid, taken: Sequence[Rectangle]) -> list[Plane]:
    """One plane, or none where nothing is missing and nothing is too many."""
    tokens = np.diff(grid.tokens)[:, None]
    absent = grid.present[:, None] * tokens - count
    variance = grid.present_variance[:, None] * tokens
    for other in taken:
        rows = (grid.tokens[:-1] < other.token_stop) & (grid.tokens[1:] > other.token_start)
        columns = (grid.channels[:, :-1] < other.channel_stop) & (grid.channels[:, 1:] > other.channel_start)
        unknown = rows[None, :, None] & columns[:, None, :]
        absent[unknown] = variance[unknown] = 0.0
    # Below half an entry, a site that is always recorded whole holds no zero.
    absent[np.abs(absent).max(axis=(1, 2)) < HALF_AN_ENTRY] = 0.0
    if not absent.any():
        return []
    # In sparse recordings, channels come and go together in a text. The median cell says how much.
    whole = variance.sum(axis=1)
    inflation = np.maximum(_median(_ratio(absent.sum(axis=1) ** 2, whole), whole > 0) / CHI_SQUARE_MEDIAN, 1.0)
    none = np.zeros(len(absent))
    return [Plane(absent, variance * inflation[:, None, None], none, none, none, bound=1.0)]
