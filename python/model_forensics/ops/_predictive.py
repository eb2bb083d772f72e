"""Bits of entries under predictive models of their channels, and the moments that such models are made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from model_forensics.errors import UsageError
from model_forensics.ops import _check, _dispatch

Floats = npt.NDArray[np.float32]
Bits = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]

SUMS: Final = 8
"""Rows of the sums that a backend fills: `PredictiveBits.magnitude` to `PredictiveBits.absolute`, in that order."""


@dataclass(frozen=True)
class Predictive:
    """A predictive model per channel: a residual of log2|x| in steps of its scale, a sign, and presence.

    Attributes:
        location: [channels] float32, of log2|x|.
        scale: [channels] float32, above 0.
        degrees: [channels] uint8, row of `bits` that the channel uses.
        positive: [channels] float32, probability of a positive sign, above 0 and below 1.
        presence_gain: [channels] float32, bits that a present entry costs more than an absent one.
        bits: [classes, levels] float64, bits of a residual symbol; at most 256 levels.
        expected: [classes] float64, their mean under the model.
        step: width of a residual symbol, in scales.
        resolution: octaves that absolute bits are stated at.
        least_scale: smaller scales weigh as much as this one in `PredictiveBits.drift`.
        largest_square: larger squared residuals count as this one in `PredictiveBits.squares`.

    Raises:
        UsageError: an attribute is not as above.
    """

    location: Floats
    scale: Floats
    degrees: npt.NDArray[np.uint8]
    positive: Floats
    presence_gain: Floats
    bits: Bits
    expected: Bits
    step: float
    resolution: float
    least_scale: float
    largest_square: float

    def __post_init__(self) -> None:
        where = "Predictive"
        channels = np.shape(self.location)
        for name in ("location", "scale", "positive", "presence_gain"):
            object.__setattr__(self, name, _check.array(where, name, getattr(self, name), np.float32, 1, channels))
        object.__setattr__(self, "degrees", _check.array(where, "degrees", self.degrees, np.uint8, 1, channels))
        object.__setattr__(self, "bits", _check.array(where, "bits", self.bits, np.float64, 2))
        classes, levels = self.bits.shape
        _check.integer(where, "the number of columns of bits", levels, 1, 256)
        object.__setattr__(
            self, "expected", _check.array(where, "expected", self.expected, np.float64, 1, (max(1, classes),))
        )
        if int(self.degrees.max(initial=0)) >= classes:
            raise UsageError(
                f"degrees holds {int(self.degrees.max())}, bits has {classes} rows",
                where=where,
                cure="Pass a row of bits for each class",
            )
        if not (np.isfinite(self.location).all() and np.isfinite(self.scale).all() and (self.scale > 0).all()):
            raise UsageError(
                "location or scale holds what is not finite, or a scale is not above 0",
                where=where,
                cure="Pass finite locations, and finite scales above 0",
            )

        if not ((self.positive > 0).all() and (self.positive < 1).all()):  # NaN compares false
            raise UsageError(
                "positive holds a probability that is not between 0 and 1",
                where=where,
                cure="What is impossible has no finite cost: pass probabilities above 0 and below 1",
            )

    def arguments(self) -> tuple[Any, ...]:
        """What backends take, in their order."""
        return (
            self.location, self.scale, self.degrees, self.positive, self.presence_gain, self.bits, self.expected,
            float(self.step), float(self.resolution), float(self.least_scale), float(self.largest_square),
        )  # fmt: skip


class PredictiveBits(NamedTuple):
    """What entries cost, each and summed over the entries of every site.

    Attributes:
        excess: [entries] float64, bits of magnitude and sign over what the model expects.
        symbols: [entries] uint8, residuals in steps, clipped to the levels.
        presence: [entries] float64, `Predictive.presence_gain` of the entry's channel.
        magnitude, sign: [sites] float64, excess bits of each.
        precision, drift: [sites] float64, Σ 1/scale² and Σ (log2|x| − location)/scale².
        squares: [sites] float64, Σ ((log2|x| − location − drift/precision)/scale)², each at most `largest_square`.
        gain: [sites] float64, Σ presence.
        static: [sites] float64, bits of the residual symbols.
        absolute: [sites] float64, bits of magnitude (at `resolution`) and sign.
        counts: [sites, levels] int64, how often each symbol occurs.
    """

    excess: Bits
    symbols: npt.NDArray[np.uint8]
    presence: Bits
    magnitude: Bits
    sign: Bits
    precision: Bits
    drift: Bits
    squares: Bits
    gain: Bits
    static: Bits
    absolute: Bits
    counts: Counts


def predictive_bits(
    x: Floats, channels: Counts, starts: Counts, model: Predictive, *, backend: str = "auto"
) -> PredictiveBits:
    """Bits of entries under their channels' models, per entry and per site, in one pass.

    Logarithms are `_tables.log2`, and sums are added entry by entry: every backend, instruction set and number of
    threads gives the same bits.

    Args:
        x: [entries] float32, finite and not 0, the entries of all sites one after the other.
        channels: [entries] int64, the channel of each, numbered through all sites.
        starts: [sites + 1] int64, where each site's entries begin.
        model: of all channels.
        backend: "auto" or the name of a backend.

    Returns:
        What each entry and each site costs.

    Raises:
        UsageError: an argument is not as above.
        BackendUnavailable: the backend cannot serve.
    """
    op = "predictive_bits"
    choice = _dispatch.select(op, x, backend)
    values = _entries(op, x)
    numbers = _check.indices(op, "channels", channels, values.size, model.location.size)
    offsets = _check.row_offsets(op, starts, values.size)
    sites, levels = offsets.size - 1, model.bits.shape[1]
    excess, presence = np.empty(values.size), np.empty(values.size)
    symbols = np.empty(values.size, dtype=np.uint8)
    sums, counts = np.empty((SUMS, sites)), np.empty((sites, levels), dtype=np.int64)
    choice.module.predictive_bits(values, numbers, offsets, *model.arguments(), excess, symbols, presence, sums, counts)
    _dispatch.record(choice)
    magnitude, sign, precision, drift, squares, gain, static, absolute = sums
    return PredictiveBits(
        excess, symbols, presence, magnitude, sign, precision, drift, squares, gain, static, absolute, counts
    )


def add_moments(
    x: Floats, channels: Counts, count: Bits, total: Bits, square: Bits, positive: Bits, *, backend: str = "auto"
) -> None:
    """Adds 1, log2|x|, its square and whether x > 0 to the sums of each entry's channel, entry by entry, in place.

    Args:
        x: [entries] float32, finite and not 0.
        channels: [entries] int64.
        count, total, square, positive: [channels] float64, writable and C-contiguous.
        backend: "auto" or the name of a backend.

    Raises:
        UsageError: an argument is not as above.
        BackendUnavailable: the backend cannot serve.
    """
    op = "add_moments"
    choice = _dispatch.select(op, x, backend)
    values = _entries(op, x)
    sums = {"count": count, "total": total, "square": square, "positive": positive}
    for name, out in sums.items():
        if _check.array(op, name, out, np.float64, 1, np.shape(count)) is not out or not out.flags.writeable:
            raise UsageError(f"{name} cannot be written in place", where=op, cure="Pass a writable, contiguous array")
    numbers = _check.indices(op, "channels", channels, values.size, count.size)
    choice.module.add_moments(values, numbers, *sums.values())
    _dispatch.record(choice)


def _entries(op: str, x: Any) -> Floats:
    values: Floats = _check.array(op, "x", x, np.float32, 1)
    if not (np.isfinite(values).all() and values.all()):
        raise UsageError("x holds 0, NaN or Inf", where=op, cure="Leave these entries out; they have no logarithm")
    return values
