"""Sections made from two mappings of scalars."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from model_forensics.types import ComparedSection, Comparison, Difference, Scalar

Facts = Mapping[str, Scalar]


def section(title: str, left: Facts, right: Facts, *, counts: bool = True, note: str | None = None) -> ComparedSection:
    """Both sides key by key, in the order of the left one; a key that one side lacks is null there."""
    keys = [*left, *(key for key in right if key not in left)]
    pairs = [(key, left.get(key), right.get(key)) for key in keys]
    differences = tuple(Difference(key=key, left=a, right=b) for key, a, b in pairs if not _same(a, b))
    return ComparedSection(title=title, compared=len(keys), differences=differences, counts=counts, note=note)


def comparison(kind: Any, left: str, right: str, sections: Iterable[ComparedSection]) -> Comparison:
    """The sections that hold anything, and whether the two sides differ."""
    kept = tuple(one for one in sections if one.compared or one.note is not None)
    differ = any(one.differences for one in kept if one.counts)
    return Comparison(kind=kind, left=left, right=right, differ=differ, sections=kept)


def flat(value: Any, key: str = "") -> dict[str, Scalar]:
    """A JSON document as dotted key → scalar; lists of scalars as one text."""
    if isinstance(value, Mapping):
        items = [flat(entry, f"{key}.{name}" if key else str(name)) for name, entry in value.items()]
        return {name: entry for item in items for name, entry in item.items()}
    if isinstance(value, list | tuple):
        return {key: ", ".join(map(str, value))}
    return {key: value}


def _same(left: Scalar, right: Scalar) -> bool:
    # 1 == True in Python, and 1 and 1.0 read the same.
    return left == right and isinstance(left, bool) == isinstance(right, bool)
