"""Recordings as flat entries: every site of a sample in one array, so that few numeric calls serve many sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from model_forensics import ops
from model_forensics.errors import BaselineError
from model_forensics.types import Sparse

if TYPE_CHECKING:
    from model_forensics.types import Recording, SiteInfo

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

CELLS = 40  # channel cells a site
FLOAT32_MAX = float(np.finfo(np.float32).max)
VALUES_LOOKED_AT = 65_536  # per site, for the shape of its values; more are thinned evenly
QUANTILES = (0.1, 0.5, 0.9, 1.0)  # of magnitude


@dataclass(frozen=True)
class Layout:
    """The sites of a baseline in execution order; channel `c` of site `s` has the global number `offsets[s] + c`."""

    sites: tuple[SiteInfo, ...]

    @cached_property
    def index(self) -> Mapping[str, int]:
        return {info.name: position for position, info in enumerate(self.sites)}

    @cached_property
    def features(self) -> Integers:
        return np.array([info.features for info in self.sites], dtype=np.int64)

    @cached_property
    def offsets(self) -> Integers:
        """[sites + 1]"""
        return np.concatenate([[0], np.cumsum(self.features)]).astype(np.int64)

    @cached_property
    def cells(self) -> npt.NDArray[np.uint8]:
        """[channels] the channel's cell inside its site."""
        widths = np.repeat(self.features, self.features)
        column = np.arange(self.channels) - np.repeat(self.offsets[:-1], self.features)
        return (column * CELLS // widths).astype(np.uint8)

    @property
    def channels(self) -> int:
        return int(self.offsets[-1])

    def __len__(self) -> int:
        return len(self.sites)


@dataclass(frozen=True)
class Entries:
    """The recorded values of one sample, all sites one after the other, row-major inside a site.

    Attributes:
        values: [entries] float32, every recorded value (zeros included).
        channel: [entries] int64, global channel numbers.
        row: [entries] int64, the token.
        starts: [sites + 1] int64, where each site's entries begin.
        rows: [sites] int64, tokens of the full activation, 0 where the sample lacks the site.
        finite: [entries] bool.
    """

    values: npt.NDArray[np.float32]
    channel: Integers
    row: Integers
    starts: Integers
    rows: Integers
    finite: npt.NDArray[np.bool_]

    @cached_property
    def site(self) -> Integers:
        return np.repeat(np.arange(self.rows.size), np.diff(self.starts))

    @property
    def nbytes(self) -> int:
        """Memory of the per-entry arrays."""
        return sum(array.nbytes for array in (self.values, self.channel, self.row, self.site, self.finite))

    @cached_property
    def shapes(self) -> ops.ValueShapes:
        """Of the finite values, zeros included."""
        if self.finite.all():
            return value_shapes(self.values, self.starts)
        return value_shapes(self.values[self.finite], starts_of(self.site[self.finite], self.rows.size))


@dataclass(frozen=True)
class Selection:
    """Finite, nonzero entries of one position class: what the predictive models see.

    Attributes:
        values, channel, row, site: [entries], as in `Entries`.
        starts: [sites + 1] int64, where each site's entries begin.
        rows: [sites] int64, tokens of this class (0 or 1 for the first token).
        recorded: [sites] float64, entries of the class including zeros and nonfinite ones.
        zeros: [sites] float64, recorded zeros.
        first_row: 0 or 1, the token that the class begins with.
        whole: the sample, where all of its entries are in this class and were kept; None otherwise.
    """

    values: npt.NDArray[np.float32]
    channel: Integers
    row: Integers
    site: Integers
    starts: Integers
    rows: Integers
    recorded: Floats
    zeros: Floats
    first_row: int
    whole: Entries | None = None

    @cached_property
    def counts(self) -> Floats:
        """[sites] entries."""
        return np.diff(self.starts).astype(np.float64)

    @cached_property
    def shapes(self) -> ops.ValueShapes:
        """Of the values; counted once where the class is the whole sample."""
        return self.whole.shapes if self.whole is not None else value_shapes(self.values, self.starts)

    def mean(self, total: Floats) -> Floats:
        """[sites] totals divided by entries; NaN where a site has no entry."""
        result: Floats = np.divide(total, self.counts, out=np.full(total.shape, np.nan), where=self.counts > 0)
        return result


def value_shapes(values: npt.NDArray[np.float32], starts: Integers) -> ops.ValueShapes:
    """Shapes of each site's values, of at most `VALUES_LOOKED_AT` of them, with quantiles at `QUANTILES`."""
    return ops.value_shapes(values, starts, most=VALUES_LOOKED_AT, levels=QUANTILES)


def starts_of(site: Integers, sites: int) -> Integers:
    """[sites + 1] where each site's entries begin, from the site of each entry in ascending order."""
    return np.searchsorted(site, np.arange(sites + 1)).astype(np.int64)


def to_float32(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """float32 without turning large finite float64 values into Inf."""
    if values.dtype == np.float32:
        return values
    if values.dtype == np.float64:
        clipped = np.clip(values, -FLOAT32_MAX, FLOAT32_MAX)
        return np.where(np.isinf(values), values, clipped).astype(np.float32)
    return values.astype(np.float32)


def _recorded(recording: Recording, sites: Sequence[str], sample: int) -> Mapping[str, npt.NDArray[Any] | Sparse]:
    """What the sample recorded of these sites, in one call where the recording offers it."""
    together = getattr(recording, "recorded_activations", None)
    if together is None:
        return {site: recording.activation(site, sample) for site in sites if recording.has_activation(site, sample)}
    found: Mapping[str, npt.NDArray[Any] | Sparse] = together(sites, sample)
    return found


def read_entries(recording: Recording, sample: int, layout: Layout) -> Entries:
    """Read all sites of `layout` that the sample recorded.

    Raises:
        BaselineError: a site has another number of features than the layout says.
    """
    values: list[npt.NDArray[np.float32]] = []
    places: list[Integers] = []  # inside [rows, features]
    counts = np.zeros(len(layout), dtype=np.int64)
    rows = np.zeros(len(layout), dtype=np.int64)
    recorded = _recorded(recording, [info.name for info in layout.sites], sample)
    for position, info in enumerate(layout.sites):
        activation = recorded.get(info.name)
        if activation is None:
            continue
        height, width = activation.shape
        if width != info.features:
            raise BaselineError(
                f"sample {sample} has {width} features at this site, the baseline {info.features}",
                where=f"{recording.path or recording.bundle_id}: {info.name}",
                cure="Use a baseline recorded from the same model",
            )
        if isinstance(activation, Sparse):
            places.append(activation.indices)
            values.append(to_float32(activation.values))
        else:
            places.append(np.arange(activation.size, dtype=np.int64))
            values.append(to_float32(np.ascontiguousarray(activation).reshape(-1)))
        rows[position] = height
        counts[position] = places[-1].size
    merged = np.concatenate(values) if values else np.zeros(0, dtype=np.float32)
    row, channel = _rows_and_columns(places, rows, counts, layout)
    channel += np.repeat(layout.offsets[:-1], counts)
    return Entries(
        values=merged,
        channel=channel,
        row=row,
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        rows=rows,
        finite=np.isfinite(merged),
    )


def _rows_and_columns(
    places: list[Integers], rows: Integers, counts: Integers, layout: Layout
) -> tuple[Integers, Integers]:
    """[entries] each, from the places of each recorded site's entries inside [rows, features]."""
    place = np.concatenate(places).astype(np.int64, copy=False) if places else np.zeros(0, dtype=np.int64)
    if rows.max(initial=0) <= 1:
        return np.broadcast_to(np.zeros((), dtype=np.int64), place.shape), place
    row, column = np.divmod(place, np.repeat(layout.features, counts))
    return row, column


def select(entries: Entries, position_class: int) -> Selection:
    """Entries of the first token (class 0) or of all later ones (class 1).

    The first token is kept apart because attention sinks give it norms that no other token has.
    """
    if position_class == 0:
        rows = np.minimum(entries.rows, 1)
        inside = entries.row == 0
    else:
        rows = np.maximum(entries.rows - 1, 0)
        inside = entries.row > 0
    zero = entries.values == 0
    keep = inside & entries.finite & ~zero
    count = entries.rows.size
    if keep.all():  # one token, as a rule: nothing is copied
        recorded = np.diff(entries.starts).astype(np.float64)
        return Selection(
            entries.values, entries.channel, entries.row, entries.site, entries.starts, rows,
            recorded=recorded, zeros=np.zeros(count), first_row=position_class, whole=entries,
        )  # fmt: skip
    site = entries.site[keep]
    return Selection(
        entries.values[keep], entries.channel[keep], entries.row[keep], site, starts_of(site, count), rows,
        recorded=np.bincount(entries.site[inside], minlength=count).astype(np.float64),
        zeros=np.bincount(entries.site[inside & zero], minlength=count).astype(np.float64),
        first_row=position_class,
    )  # fmt: skip
