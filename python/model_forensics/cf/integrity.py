"""Counts that need no baseline: NaN, Inf, zeros, constant channels, distinct values, mantissa bits, saturation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from model_forensics.cf.features.shape import share
from model_forensics.cf.planes import Entries, Floats, Integers, Layout

DEPARTS_AT = 4.0  # normal scores at which an integrity count is put into words
WORDS = {
    "distinct": ("fewer distinct values than benign runs", "more distinct values than benign runs"),
    "low_mantissa": (
        "fewer low mantissa bits set than in benign runs",
        "more low mantissa bits set than in benign runs",
    ),
    "saturated": ("fewer values at the largest magnitude", "more values at the largest magnitude than in benign runs"),
    "repeated": ("values repeat less than in benign runs", "one value repeats more than in benign runs"),
    "zero": ("fewer zeros than in benign runs", "more zeros than in benign runs"),
}


@dataclass
class IntegrityCounts:
    """Sums over the samples of a recording, [sites] each; `shares` are weighted by values looked at."""

    values: Integers
    nan: Integers
    inf: Integers
    zeros: Integers
    first: list[tuple[int, int, int] | None]
    shares: dict[str, Floats]
    weight: Floats
    lowest: np.ndarray
    highest: np.ndarray
    dense: np.ndarray
    rows: Integers
    several: bool  # samples

    @staticmethod
    def empty(layout: Layout, dense: np.ndarray, *, several: bool) -> IntegrityCounts:
        sites = len(layout)
        counts = [np.zeros(sites, dtype=np.int64) for _ in range(5)]
        return IntegrityCounts(
            values=counts[0],
            nan=counts[1],
            inf=counts[2],
            zeros=counts[3],
            first=[None] * sites,
            shares={name: np.zeros(sites) for name in ("distinct", "low_mantissa", "saturated")},
            weight=np.zeros(sites),
            lowest=np.full(layout.channels, np.inf, dtype=np.float32),
            highest=np.full(layout.channels, -np.inf, dtype=np.float32),
            dense=dense,
            rows=counts[4],
            several=several,
        )

    @staticmethod
    def joined(parts: Sequence[IntegrityCounts]) -> IntegrityCounts:
        """Of the sites of all parts, one part after the other."""
        if len(parts) == 1:
            return parts[0]
        arrays = {
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in ("values", "nan", "inf", "zeros", "weight", "lowest", "highest", "dense", "rows")
        }
        shares = {name: np.concatenate([part.shares[name] for part in parts]) for name in parts[0].shares}
        first = [place for part in parts for place in part.first]
        return IntegrityCounts(first=first, shares=shares, several=parts[0].several, **arrays)

    def add(self, entries: Entries, sample: int, layout: Layout) -> None:
        """Take in one sample."""
        sites = len(layout)
        self.values += np.diff(entries.starts)
        self.rows += entries.rows
        self.zeros += np.bincount(entries.site[entries.values == 0], minlength=sites)
        if not entries.finite.all():
            self._add_nonfinite(entries, sample, layout)
        finite = entries.finite
        if (self.several or self.rows.max(initial=0) > 1) and self.dense.any():
            np.minimum.at(self.lowest, entries.channel[finite], entries.values[finite])
            np.maximum.at(self.highest, entries.channel[finite], entries.values[finite])
        shapes = entries.shapes
        count = np.diff(entries.starts) if finite.all() else np.bincount(entries.site[finite], minlength=sites)
        for name, counted in (
            ("distinct", shapes.distinct),
            ("low_mantissa", shapes.low_mantissa),
            ("saturated", shapes.saturated),
        ):
            self.shares[name] += np.nan_to_num(share(counted, shapes)) * count
        self.weight += count

    def _add_nonfinite(self, entries: Entries, sample: int, layout: Layout) -> None:
        bad = np.flatnonzero(~entries.finite)
        site = entries.site[bad]
        is_nan = np.isnan(entries.values[bad])
        self.nan += np.bincount(site[is_nan], minlength=len(layout))
        self.inf += np.bincount(site[~is_nan], minlength=len(layout))
        found, first = np.unique(site, return_index=True)
        for position, at in zip(found, bad[first], strict=True):
            if self.first[position] is None:
                channel = int(entries.channel[at] - layout.offsets[position])
                self.first[position] = (sample, int(entries.row[at]), channel)

    def results(
        self,
        layout: Layout,
        normal: Sequence[dict[str, float]] | None = None,
        differences: Sequence[str | None] | None = None,
    ) -> list[dict[str, Any]]:
        """The counts of each site: fields of an `Integrity`.

        Args:
            normal: per site, normal scores of the integrity columns that depart; None without a baseline.
            differences: per site, in words, how its dtype differs from the baseline's; None without one.
        """
        normal = [{} for _ in layout.sites] if normal is None else normal
        differences = [None for _ in layout.sites] if differences is None else differences
        shares = [np.divide(total, self.weight, out=np.zeros_like(total), where=self.weight > 0).tolist()
                  for total in self.shares.values()]  # fmt: skip
        counts = (each.tolist() for each in (self.values, self.zeros, self.nan, self.inf, self.weight))
        given = zip(*counts, *shares, self.first, self._constant_channels(layout), normal, differences, strict=True)
        return [
            {
                "values": values,
                "nan": nan,
                "inf": inf,
                "first_nonfinite": first if nan + inf else None,
                "all_zero": values > 0 and zeros == values,
                "zero_fraction": zeros / values if values else 0.0,
                "constant_channels": constant,
                "distinct_fraction": distinct if weight else None,
                "low_mantissa_fraction": low_mantissa if weight else None,
                "saturated_fraction": saturated if weight else None,
                "flags": _flags(nan, inf, values > 0 and zeros == values, departing, difference),
            }
            for values, zeros, nan, inf, weight, distinct, low_mantissa, saturated,
                first, constant, departing, difference in given
        ]  # fmt: skip

    def _constant_channels(self, layout: Layout) -> list[int | None]:
        """Per site; None where it is sparse or has one row."""
        result: list[int | None] = [None] * len(layout)
        for site in np.flatnonzero(self.dense & (self.rows > 1)):
            part = slice(layout.offsets[site], layout.offsets[site + 1])
            result[site] = int((self.lowest[part] == self.highest[part]).sum())
        return result


def _flags(nan: int, inf: int, all_zero: bool, normal: dict[str, float], difference: str | None) -> tuple[str, ...]:
    flags: list[str] = []
    if nan:
        flags.append(f"{nan} NaN")
    if inf:
        flags.append(f"{inf} Inf")
    if all_zero:
        flags.append("all values are zero")
    for name, score in normal.items():
        if abs(score) >= DEPARTS_AT:
            below, above = WORDS[name]
            flags.append(above if score > 0 else below)
    if difference is not None:
        flags.append(difference)
    return tuple(flags)


def hard_flags(counts: IntegrityCounts) -> Sequence[bool]:
    """[sites] whether NaN or Inf was recorded."""
    result: list[bool] = (counts.nan + counts.inf > 0).tolist()
    return result
