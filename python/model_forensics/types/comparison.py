"""Two incidents or two results side by side."""

from __future__ import annotations

from typing import Literal

from model_forensics.types.base import Frozen

Scalar = str | int | float | bool | None


class Difference(Frozen):
    """One thing that is not the same on both sides; null where a side does not have it."""

    key: str
    left: Scalar
    right: Scalar


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
