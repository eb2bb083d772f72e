"""Where inside a site a fault lies: a scan statistic over rectangles of tokens × channels of every size.

After Kulldorff (1997, Communications in Statistics 26): the log-likelihood ratio of "the evidence inside differs"
against "it does not", maximised over rectangles. Small rectangles are many more than large ones; each is judged against
how far chance gets at its own size (Dümbgen and Spokoiny 2001, Ann. Stat. 29), so neither kind is preferred.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from model_forensics.cf.features.codelength import Coded
from model_forensics.cf.features.evidence import Grid, Plane, Rectangle, gather
from model_forensics.cf.moments import ChannelModel
from model_forensics.cf.planes import CELLS, Floats, Integers, Layout, Selection

TOKEN_BINS = 32
BINS_AT_ONCE = 1 << 16  # sites are scanned together up to this many bins
ENTRIES_AT_ONCE = 1 << 21  # and, apart from a single larger site, entries
LEAST = 1e-9  # keeps divisions defined where a rectangle holds nothing
REFINEMENTS = 8  # rounds; they stop by themselves as soon as no edge moves


class Found(NamedTuple):
    """A rectangle, its score (√(2 · log-likelihood ratio) over what chance reaches at its size), and its bits."""

    rectangle: Rectangle
    score: float
    bits: float


@dataclass(frozen=True)
class Scan:
    """The best rectangle of every site.

    Attributes:
        score: [sites] float64, NaN where a site has no token.
        bits: [sites] float64.
        corners: [sites, 4] int64, a `Rectangle` each.
    """

    score: Floats
    bits: Floats
    corners: Integers

    def best(self, site: int) -> Found | None:
        if not np.isfinite(self.score[site]):
            return None
        return Found(Rectangle(*self.corners[site].tolist()), float(self.score[site]), float(self.bits[site]))


def scan(selection: Selection, coded: Coded, model: ChannelModel, layout: Layout) -> Scan:
    """Scan all sites over bins of tokens (at most `TOKEN_BINS`) × channels (`CELLS`)."""
    sites = len(layout)
    result = Scan(np.full(sites, np.nan), np.full(sites, np.nan), np.zeros((sites, 4), dtype=np.int64))
    starts = np.concatenate([[0], np.cumsum(selection.counts)]).astype(np.int64)
    for chosen in _batches(selection):
        entries = slice(int(starts[chosen[0]]), int(starts[chosen[-1] + 1]))
        grid = _coarse(selection, entries, chosen, model, layout)
        images = _Images(gather(selection, entries, coded.symbols, model, grid), grid)
        result.score[chosen], result.bits[chosen], result.corners[chosen] = images.best(())
    return result


def windows_of(
    selection: Selection, coded: Coded, model: ChannelModel, layout: Layout, site: int, limit: int
) -> list[Found]:
    """Up to `limit` rectangles of one site that do not overlap, best first, with edges exact to a token and a channel.

    Scores are those of the coarse scan, which is what benign samples were measured with. Rectangles after the first are
    kept only if they score above zero, that is, above what chance reaches. What lies in a found rectangle is unknown
    to the search for the next: the rest would depart from it just as it departs from the rest.
    """
    if not selection.rows[site]:
        return []
    chosen = np.array([site])
    start = int(selection.counts[:site].sum())
    entries = slice(start, start + int(selection.counts[site]))
    coarse = _coarse(selection, entries, chosen, model, layout)
    found: list[Found] = []
    while len(found) < limit:
        taken = [item.rectangle for item in found]
        score, _, corners = _Images(gather(selection, entries, coded.symbols, model, coarse, taken), coarse).best(taken)
        if not np.isfinite(score[0]) or (found and score[0] <= 0):
            break
        rectangle, bits = Rectangle(*corners[0].tolist()), 0.0
        for _ in range(REFINEMENTS):
            grid = _split(coarse, rectangle, selection, entries, model, layout)
            images = _Images(gather(selection, entries, coded.symbols, model, grid, taken), grid)
            rectangle, bits = images.climb(rectangle, taken)
            if _exact(grid, rectangle):
                break
        found.append(Found(rectangle, float(score[0]), bits))
    return found


def _batches(selection: Selection) -> Iterator[Integers]:
    """Site numbers, in order, with equally many rows in each batch."""
    present = np.flatnonzero(selection.rows > 0)
    rows, counts = selection.rows[present], selection.counts[present]
    for run in np.split(np.arange(present.size), np.flatnonzero(np.diff(rows)) + 1):
        if run.size:
            bins = min(int(rows[run[0]]), TOKEN_BINS) * CELLS
            of_bins = np.arange(run.size) // max(1, BINS_AT_ONCE // bins)
            batch = of_bins + np.cumsum(counts[run]) // ENTRIES_AT_ONCE
            for part in np.split(run, np.flatnonzero(np.diff(batch)) + 1):
                yield present[part]


def _coarse(selection: Selection, entries: slice, chosen: Integers, model: ChannelModel, layout: Layout) -> Grid:
    rows = int(selection.rows[chosen[0]])
    bins = min(rows, TOKEN_BINS)
    return Grid(
        sites=chosen,
        tokens=-(-np.arange(bins + 1) * rows // bins),
        channels=-(-np.arange(CELLS + 1) * layout.features[chosen][:, None] // CELLS),
        first=layout.offsets[chosen],
        cell=model.cell[selection.channel[entries]].astype(np.int64),
        present=model.cell_present[chosen],
        present_variance=model.cell_present_variance[chosen],
    )


def _split(
    coarse: Grid, near: Rectangle, selection: Selection, entries: slice, model: ChannelModel, layout: Layout
) -> Grid:
    """The grid of one site with single tokens and channels around the edges of a rectangle."""
    site = int(coarse.sites[0])
    tokens = _split_edges(coarse.tokens, near.token_start, near.token_stop)
    channels = _split_edges(coarse.channels[0], near.channel_start, near.channel_stop)
    offset = int(layout.offsets[site])
    gain = model.presence_gain[offset : offset + int(layout.features[site])].astype(np.float64)
    present = 1 / (1 + np.exp2(gain))
    cell = np.repeat(np.arange(channels.size - 1), np.diff(channels))
    return Grid(
        sites=coarse.sites,
        tokens=tokens,
        channels=channels[None],
        first=coarse.first,
        cell=cell[selection.channel[entries] - offset],
        present=np.add.reduceat(present, channels[:-1])[None],
        present_variance=np.add.reduceat(present * (1 - present), channels[:-1])[None],
    )


def _split_edges(edges: Integers, start: int, stop: int) -> Integers:
    """Edges and, around `start` and `stop`, every position up to a bin away (the widest bin's width)."""
    reach = int(np.diff(edges).max())
    positions = np.arange(edges[-1] + 1)
    near = (np.abs(positions - start) <= reach) | (np.abs(positions - stop) <= reach)
    return np.union1d(edges, positions[near])


def _exact(grid: Grid, found: Rectangle) -> bool:
    """Whether every edge could have moved by one token or channel."""
    tokens, channels = grid.tokens, grid.channels[0]
    around = (
        (tokens, found.token_start),
        (tokens, found.token_stop),
        (channels, found.channel_start),
        (channels, found.channel_stop),
    )
    return all(place in (0, edges[-1]) or bool(np.isin((place - 1, place + 1), edges).all()) for edges, place in around)


class _Images:
    """Cumulative sums of planes, so that a rectangle of bins costs four look-ups. Sites are the last axis: what is done
    for all of them runs along memory.

    Attributes:
        sums: [2, planes, bins + 1, cells + 1, sites], totals and variances.
        above: what to subtract at a rectangle's first token; planes of steps begin one token later.
        channels: [cells + 1, sites] edges.
        shares: [3, planes, sites] of token, channel and common effects.
    """

    def __init__(self, planes: Sequence[Plane], grid: Grid) -> None:
        self.tokens, self.channels = grid.tokens, np.ascontiguousarray(grid.channels.T)
        self.bounds = [plane.bound for plane in planes]
        self.steps = np.array([plane.steps for plane in planes])
        self.shares = np.stack([[plane.row, plane.column, plane.both] for plane in planes], axis=1)
        self.sums = np.zeros((2, len(planes), self.tokens.size, *self.channels.shape))
        for number, plane in enumerate(planes):
            self.sums[0, number, 1:, 1:] = np.moveaxis(plane.total, 0, -1)
            self.sums[1, number, 1:, 1:] = np.moveaxis(plane.variance, 0, -1)
        for edge in range(1, self.tokens.size):
            self.sums[:, :, edge] += self.sums[:, :, edge - 1]
        for edge in range(1, len(self.channels)):
            self.sums[:, :, :, edge] += self.sums[:, :, :, edge - 1]
        self.above = self.sums
        if self.steps.any():
            self.above = self.sums.copy()
            first = np.diff(self.sums[:, self.steps], axis=2) / np.diff(self.tokens)[:, None, None]
            self.above[:, self.steps, :-1] += first

    def best(self, taken: Sequence[Rectangle]) -> tuple[Floats, Floats, Integers]:
        """[sites] score and bits, [sites, 4] corners of the best rectangle that meets none of `taken`; else −inf."""
        bins, cells, sites = self.tokens.size - 1, len(self.channels) - 1, self.channels.shape[1]
        score, bits = np.full(sites, -np.inf), np.zeros(sites)
        corners = np.zeros((sites, 4), dtype=np.int64)
        every = np.arange(sites)
        for length in _lengths(bins):
            top, bottom = _positions(length, bins)
            start, stop = self.tokens[top], self.tokens[bottom]
            strip = self.sums[:, :, bottom] - self.above[:, :, top]
            across = strip[1, :, :, -1:]
            for width in _lengths(cells):
                first, last = _positions(width, cells)
                left, right = self.channels[first], self.channels[last]
                inside = strip[:, :, :, last] - strip[:, :, :, first]
                down = self.sums[1, :, -1:, last] - self.sums[1, :, -1:, first]
                value, ratio = self._judge(inside, across, down, (stop - start)[:, None, None] * (right - left))
                _forbid(value, taken, start[:, None, None], stop[:, None, None], left, right)
                flat = value.reshape(-1, sites)
                at = flat.argmax(axis=0)
                better = flat[at, every] > score
                token, channel = np.divmod(at, len(left))
                here = np.stack([start[token], stop[token], left[channel, every], right[channel, every]], axis=1)
                score = np.where(better, flat[at, every], score)
                bits = np.where(better, ratio.reshape(-1, sites)[at, every] / np.log(2), bits)
                corners[better] = here[better]
        return score, bits, corners

    def climb(self, start: Rectangle, taken: Sequence[Rectangle]) -> tuple[Rectangle, float]:
        """Move the edges of a rectangle of the only site, one at a time, while its score grows; and its bits."""
        edges = [self.tokens, self.tokens, self.channels[:, 0], self.channels[:, 0]]
        at = [int(np.searchsorted(line, place)) for line, place in zip(edges, start, strict=True)]
        best = -np.inf
        bits = 0.0
        moved = True
        while moved:
            moved = False
            for edge in range(4):
                first = 0 if edge % 2 == 0 else at[edge - 1] + 1
                last = at[edge + 1] - 1 if edge % 2 == 0 else edges[edge].size - 1
                places: list[Integers] = [np.array([place]) for place in at]
                places[edge] = np.arange(first, last + 1)
                value, ratio = self._at(places, taken)
                chosen = int(value.argmax())
                if value[chosen] > best:
                    moved = True
                    best, bits = float(value[chosen]), float(ratio[chosen] / np.log(2))
                    at[edge] = first + chosen
        return Rectangle(*(int(line[place]) for line, place in zip(edges, at, strict=True))), bits

    def _at(self, places: Sequence[Integers], taken: Sequence[Rectangle]) -> tuple[Floats, Floats]:
        """[rectangles] score and log-likelihood ratio; `places` index the edges."""
        top, bottom, left, right = np.broadcast_arrays(*places)
        below, above = self.sums[..., 0], self.above[..., 0]
        inside = below[..., bottom, right] - below[..., bottom, left] - above[..., top, right] + above[..., top, left]
        across = below[1, :, bottom, -1] - above[1, :, top, -1]
        down = below[1, :, -1, right] - below[1, :, -1, left]
        corners = (self.tokens[top], self.tokens[bottom], self.channels[left, 0], self.channels[right, 0])
        size = (corners[1] - corners[0]) * (corners[3] - corners[2])
        value, ratio = self._judge(inside[..., None], across.T[..., None], down.T[..., None], size[:, None])
        _forbid(value[:, 0], taken, *corners)
        return value[:, 0], ratio[:, 0]

    def _judge(self, inside: Floats, across: Floats, down: Floats, size: Integers) -> tuple[Floats, Floats]:
        """Score and log-likelihood ratio (nats), [..., sites], of rectangles.

        Args:
            inside: [2, planes, ..., sites] totals and variances.
            across, down: [planes, ..., sites] variances of a rectangle's tokens over all channels, and of its channels
                over all tokens; these and `size`, in entries, broadcast to the rectangles.
        """
        summed = np.zeros(inside.shape[2:])
        for plane, bound in enumerate(self.bounds):
            total, variance = inside[:, plane]
            row, column, both = self.shares[:, plane]
            whole = self.sums[1, plane, -1, -1]
            taken_away = _share(row, across[plane])
            if column.any() or both.any():
                taken_away = taken_away + _share(column, down[plane]) - _share(both, whole)
            rest = variance * taken_away
            np.subtract(1, rest, out=rest)
            rest *= variance
            summed += _log_likelihood(total, np.maximum(rest, LEAST, out=rest), bound)
        everything = self.tokens[-1] * self.channels[-1]
        chance = np.sqrt(2 * (1 + np.log(everything / np.maximum(size, LEAST))))
        return np.sqrt(2 * summed) - chance, summed


def _share(part: Floats, of: Floats) -> Floats:
    result: Floats = part / np.maximum(of, LEAST)
    return result


def _forbid(
    value: Floats, taken: Sequence[Rectangle], top: Integers, bottom: Integers, left: Integers, right: Integers
) -> None:
    """Put −inf where a rectangle overlaps one of `taken`."""
    for other in taken:
        rows = (top < other.token_stop) & (bottom > other.token_start)
        value[rows & (left < other.channel_stop) & (right > other.channel_start)] = -np.inf


def _log_likelihood(total: Floats, variance: Floats, bound: float) -> Floats:
    """Log-likelihood ratio of a shifted mean; with a bound, Bennett's exponent, which is that of rare events."""
    if bound == 0:
        return total**2 / (2 * variance)
    ratio = np.abs(total) * (bound / variance)
    result = np.log1p(ratio)
    result *= 1 + ratio
    result -= ratio
    result *= variance / bound**2
    return result


def _lengths(limit: int) -> list[int]:
    """1, 2, 4, 8, … and the limit itself."""
    return [1 << power for power in range((limit - 1).bit_length())] + [limit]


def _positions(length: int, limit: int) -> tuple[slice, slice]:
    """First and past-the-last bins of rectangles, a quarter of their length apart."""
    step = max(1, length // 4)
    return slice(0, limit - length + 1, step), slice(length, limit + 1, step)
