"""Two streaming passes over benign recordings: channel moments, then cross-fitted feature tables and sketches.

Memory stays below the sum of

- 256 bytes for each value of the longest sample, 1 KiB for each channel (of which values that are read once are kept in
  at most `KEPT_BYTES` for both passes, and `KEPT_IN_FOLD` for both uses in a fold), and a MiB;
- for each site of each chosen sample, 4 rows of a table (float64 [columns]) and 6 mean sketches (float64 [SKETCH]);
- for each site, its maps to innovations: 4 · (MOST_SOURCES + 1) · SKETCH² bytes;
- for each of T sketched tokens, 24 · SKETCH bytes a site, and 32 · C for their regression, C = MOST_SOURCES · SKETCH;
- 160 · C² bytes for the regression's systems of equations.

T is at most SKETCHED_TOKENS, or one token of each sample where there are more samples. So memory does not grow with the
number or length of recordings beyond the samples that are chosen (`baseline_samples`). What the recordings themselves
hold comes on top; see `bundle.Shelf`.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from model_forensics.cf.features.table import COLUMNS, measure
from model_forensics.cf.moments import ChannelModel, Moments, fit_channels
from model_forensics.cf.planes import Entries, Floats, Integers, Layout, read_entries, select
from model_forensics.cf.sketch import SKETCH, Sketcher

if TYPE_CHECKING:
    from model_forensics.types import Recording

SKETCHED_TOKENS = 1600  # of all samples together, for the regressions on upstream
FOLDS = 10  # groups are held out one at a time up to this many, in this many folds beyond
KEPT_BYTES = 192  # for each channel: short or sparse samples are read once for both passes while they take no more
KEPT_IN_FOLD = 64  # likewise of the others, for a fold's moments and its measurements


@dataclass(frozen=True)
class Chosen:
    """One benign sample that enters the baseline."""

    recording: Recording
    sample: int
    group: str


def choose_samples(recordings: Sequence[Recording], limit: int) -> list[Chosen]:
    """At most `limit` samples, balanced over groups, independent of the order of recordings.

    Groups take turns; inside a group the order is that of a digest of (bundle id, sample id). So a sample that is left
    out of some recordings is also left out when there are more of them, with the same limit.
    """
    groups: dict[str, list[tuple[str, Chosen]]] = defaultdict(list)
    for recording in recordings:
        for number, sample in enumerate(recording.samples):
            key = hashlib.sha256(f"{recording.bundle_id}\n{sample.sample_id}".encode()).hexdigest()
            groups[sample.group].append((key, Chosen(recording, number, sample.group)))
    queues = []
    for name in sorted(groups, key=lambda group: hashlib.sha256(group.encode()).hexdigest()):
        members = sorted(groups[name], key=lambda item: item[0])
        queues.append([chosen for _, chosen in members])
    turns = max((len(queue) for queue in queues), default=0)
    order = [queue[turn] for turn in range(turns) for queue in queues if turn < len(queue)]
    return order[:limit]


class KeepingReader:
    """Reads samples, and keeps the first one and others while they take at most so many bytes for each channel.

    Args:
        longer: keeps some for longer; those are taken from there.
    """

    def __init__(self, layout: Layout, bytes_a_channel: int, longer: KeepingReader | None = None) -> None:
        self._layout = layout
        self._left = bytes_a_channel * layout.channels
        self._kept: dict[tuple[int, int], Entries] = {}
        self._longer = longer

    def __call__(self, item: Chosen) -> Entries:
        entries = self.kept(item)
        if entries is None:
            entries = read_entries(item.recording, item.sample, self._layout)
            self._left -= entries.nbytes
            if self._left >= 0 or not self._kept:
                self._kept[_key(item)] = entries
        return entries

    def kept(self, item: Chosen) -> Entries | None:
        found = self._kept.get(_key(item))
        return found if found is not None or self._longer is None else self._longer.kept(item)


def _key(item: Chosen) -> tuple[int, int]:
    return id(item.recording), item.sample


def sum_moments(
    chosen: Sequence[Chosen],
    layout: Layout,
    read: Callable[[Chosen], Entries],
    nonfinite: dict[str, int] | None = None,
) -> tuple[tuple[Moments, Moments], Integers]:
    """Moments of the first and of the later tokens, and [samples, sites] tokens.

    Args:
        nonfinite: filled with site → NaN and Inf values met.
    """
    first, later = Moments.empty(layout), None
    tokens = np.zeros((len(chosen), len(layout)), dtype=np.int64)
    for number, item in enumerate(chosen):
        entries = read(item)
        tokens[number] = entries.rows
        first.add(select(entries, 0))
        if entries.rows.max(initial=0) > 1:
            later = Moments.empty(layout) if later is None else later
            later.add(select(entries, 1))
        if nonfinite is not None and not entries.finite.all():
            bad = np.bincount(entries.site[~entries.finite], minlength=len(layout))
            for site in np.flatnonzero(bad):
                name = layout.sites[site].name
                nonfinite[name] = nonfinite.get(name, 0) + int(bad[site])
    return (first, Moments.unseen(layout) if later is None else later), tokens


def models_of(
    moments: Sequence[Moments], layout: Layout, without: Sequence[Moments] | None = None
) -> tuple[ChannelModel | None, ...]:
    """The channel model of each position class; None where no token of it is left.

    Args:
        without: moments, part of the first ones, that the models must not know.
    """
    if without is None:
        return tuple(fit_channels(part, layout) if part.rows.any() else None for part in moments)
    return tuple(
        fit_channels(part, layout, left_out) if (part.rows > left_out.rows).any() else None
        for part, left_out in zip(moments, without, strict=True)
    )


def assign_folds(groups: Sequence[object]) -> np.ndarray:
    """[samples] fold numbers; no group is split."""
    names = list(dict.fromkeys(groups))
    numbers = {name: position % FOLDS for position, name in enumerate(names)}
    return np.array([numbers[group] for group in groups], dtype=np.int64)


def cross_fit(
    chosen: Sequence[Chosen],
    layout: Layout,
    totals: tuple[Moments, Moments],
    methods: Sequence[str],
    window: int,
    reader: KeepingReader,
) -> tuple[Floats, Sketches]:
    """[samples, sites, columns]: each sample measured with models that never saw its group; and its sketches.

    Args:
        reader: with what it kept when the totals were summed.
    """
    folds = assign_folds([item.group for item in chosen])
    tables = np.full((len(chosen), len(layout), len(COLUMNS)), np.nan)
    sketches = Sketches.empty(len(chosen), make_sketcher(totals, layout), layout)
    for fold in np.unique(folds):
        members = [position for position in range(len(chosen)) if folds[position] == fold]
        read = KeepingReader(layout, KEPT_IN_FOLD, longer=reader)
        held_out, _ = sum_moments([chosen[position] for position in members], layout, read)
        models = models_of(totals, layout, held_out)
        for position in members:
            entries = read(chosen[position])
            tables[position] = measure(entries, models, layout, methods, window).table
            sketches.add(position, entries)
    return tables, sketches


@dataclass
class Sketches:
    """Sketches of the chosen samples.

    Attributes:
        means: [samples, sites, SKETCH]; rows: of each sample's tokens, at most `most` of them.
    """

    sketcher: Sketcher
    means: Floats
    rows: list[npt.NDArray[np.float32]]
    most: int

    @staticmethod
    def empty(samples: int, sketcher: Sketcher, layout: Layout) -> Sketches:
        means = np.full((samples, len(layout), SKETCH), np.nan)
        nothing = np.zeros((0, len(layout), SKETCH), dtype=np.float32)
        return Sketches(sketcher, means, [nothing] * samples, max(1, SKETCHED_TOKENS // samples))

    def add(self, position: int, entries: Entries) -> None:
        self.means[position] = self.sketcher.mean(entries)
        alone = self.sketcher.tokens(entries).max(initial=0) == 1
        self.rows[position] = (
            self.means[position][None].astype(np.float32) if alone else self.sketcher.rows(entries, self.most)
        )


def make_sketcher(
    moments: Sequence[Moments], layout: Layout, models: Sequence[ChannelModel | None] | None = None
) -> Sketcher:
    """Of later tokens where benign runs have any, else of first ones.

    Args:
        models: of these moments, where they are fitted already.
    """
    position_class = 1 if moments[1].rows.any() else 0
    model = fit_channels(moments[position_class], layout) if models is None else models[position_class]
    assert model is not None, "some benign run has a token"
    return Sketcher.of(layout, model, position_class)
