"""Two incidents or two results side by side."""

from __future__ import annotations

from typing import Literal

from model_forensics.types.base import Frozen

Scalar = str | int | float | bool | None


class Departure(Frozen):
    """How far the right side's values are from the left side's, over samples with the same input.

    The root mean squares are over entries that are finite on both sides, and null where there are none.
    """

    samples: int
    differ: int  # samples with other values; of these, `unlike` have another shape, or NaN and Inf elsewhere
    unlike: int
    rms: float | None  # of the left side's values
    rms_difference: float | None
    largest_difference: float | None


class Difference(Frozen):
    """One thing that is not the same on both sides; null where a side does not have it.

    Of values, `left` and `right` say in words what `departure` holds in numbers.
    """

    key: str
    left: Scalar
    right: Scalar
    departure: Departure | None = None


class ComparedSection(Frozen):
    """What was compared under one heading."""

    title: str
    compared: int  # things that were looked at
    differences: tuple[Difference, ...]
    counts: bool = True  # whether differences here make the two sides different; places and times do not
    note: str | None = None  # what could not be compared, and why


class Comparison(Frozen):
    """Two of a kind, section by section."""

    kind: Literal["results", "bundles"]
    left: str
    right: str
    differ: bool
    sections: tuple[ComparedSection, ...]
