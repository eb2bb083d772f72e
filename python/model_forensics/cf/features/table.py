"""The table of features: one row a site, one column a measurement and position class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from model_forensics.cf.features.codelength import Coded, code
from model_forensics.cf.features.general import compressed_bits, entropy_columns, window_entropies
from model_forensics.cf.features.scan import Scan, scan
from model_forensics.cf.features.shape import shape_columns
from model_forensics.cf.moments import ChannelModel
from model_forensics.cf.planes import Entries, Floats, Integers, Layout, Selection, select

ARITHMETIC = ("magnitude", "scale", "spread", "sign", "presence", "redundancy", "block")
INTEGRITY = ("distinct", "low_mantissa", "saturated", "repeated", "zero", "top", "upper", "lower")
ENTROPY = ("entropy", "entropy_low", "entropy_high")
PER_CLASS = (*ARITHMETIC, *INTEGRITY, *ENTROPY)
CLASSES = ("first", "later")
WHOLE = ("zlib", "gzip", "bits")  # all tokens together; `bits` is reported, not scored

COLUMNS: tuple[str, ...] = tuple(f"{kind}.{name}" for kind in CLASSES for name in PER_CLASS) + WHOLE
COLUMN: dict[str, int] = {name: position for position, name in enumerate(COLUMNS)}


def columns_of(method: str) -> tuple[int, ...]:
    """Column numbers of a method: `arithmetic`, `integrity`, `entropy`, `zlib` or `gzip`."""
    if method in ("zlib", "gzip"):
        return (COLUMN[method],)
    names = {"arithmetic": ARITHMETIC, "integrity": INTEGRITY, "entropy": ENTROPY}[method]
    return tuple(COLUMN[f"{kind}.{name}"] for kind in CLASSES for name in names)


@dataclass(frozen=True)
class Part:
    """One position class of one sample, kept for windows and profiles."""

    selection: Selection
    coded: Coded
    model: ChannelModel
    scan: Scan
    window_bits: Floats
    window_starts: Integers

    def without_entries(self, *, windows: bool) -> Part:
        empty = np.zeros(0)
        none = empty.astype(np.int64)
        selection = replace(
            self.selection, values=empty.astype(np.float32), channel=none, row=none, site=none, whole=None
        )
        coded = replace(self.coded, excess=empty, symbols=empty.astype(np.uint8), presence_gain=empty)
        kept = replace(self, selection=selection, coded=coded)
        return kept if windows else replace(kept, window_bits=empty, window_starts=np.zeros_like(self.window_starts))


@dataclass(frozen=True)
class Measured:
    """[sites, columns] float64 (NaN where something cannot be measured), and the parts by position class."""

    table: Floats
    parts: tuple[Part | None, ...]

    def without_entries(self, *, windows: bool) -> Measured:
        """The same without per-entry arrays, so that a recording of many samples stays small in memory.

        Args:
            windows: whether the entropies of its windows stay.
        """
        parts = (None if part is None else part.without_entries(windows=windows) for part in self.parts)
        return Measured(self.table, tuple(parts))


def measure(
    entries: Entries, models: Sequence[ChannelModel | None], layout: Layout, methods: Sequence[str], window: int
) -> Measured:
    """Measure one sample.

    Args:
        models: the channel model of each position class; None where the baseline never saw the class.
        methods: of `ForensicsConfig.compression_methods`; zlib and gzip are computed only when listed.
        window: symbols in one entropy window.
    """
    table = np.full((len(layout), len(COLUMNS)), np.nan)
    total_bits = np.zeros(len(layout))
    parts: list[Part | None] = []
    for position_class, (kind, model) in enumerate(zip(CLASSES, models, strict=True)):
        if model is None or entries.rows.max(initial=0) <= position_class:
            parts.append(None)
            continue
        chosen = select(entries, position_class)
        coded = code(chosen, model)
        found = scan(chosen, coded, model, layout)
        window_bits, window_starts = window_entropies(chosen, coded.symbols, window)
        columns = dict(coded.columns)
        columns["block"] = found.score
        columns |= shape_columns(chosen)
        columns |= entropy_columns(window_bits, window_starts)
        for name, values in columns.items():
            table[:, COLUMN[f"{kind}.{name}"]] = values
        total_bits += np.where(chosen.rows > 0, coded.bits, 0.0)
        parts.append(Part(chosen, coded, model, found, window_bits, window_starts))
    recorded = np.diff(entries.starts)
    table[:, COLUMN["bits"]] = np.where(recorded > 0, total_bits / np.maximum(recorded, 1), np.nan)
    for method in ("zlib", "gzip"):
        if method in methods:
            table[:, COLUMN[method]] = compressed_bits(entries, method)
    table[entries.rows == 0] = np.nan
    return Measured(table, tuple(parts))
