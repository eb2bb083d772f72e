"""Which bytes of a tensor file are coded together, and how, in the codec `arithmetic`. See docs/bundle-format.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from model_forensics.files import TensorEntry

Bytes: TypeAlias = npt.NDArray[np.uint8]
CoderDtype = Literal["bytes", "float32", "float16", "bfloat16"]

SECTION: Final = 1 << 20
"""Bytes of content in a section; a multiple of every item size."""
CODER_DTYPES: Final[dict[str, CoderDtype]] = {
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "U16": "float16",
    "U32": "float32",
}
"""The coder takes the bytes of an item apart; of integers only the size counts. Other dtypes are coded as bytes."""
_DIFFERENCES: Final[dict[str, np.dtype[Any]]] = {"U16": np.dtype("<u2"), "U32": np.dtype("<u4"), "I64": np.dtype("<u8")}
"""Indices and offsets grow steadily: their differences say the same in half the bits."""


class Part(NamedTuple):
    """Bytes of a tensor: [start, stop) of its own."""

    name: str
    start: int
    stop: int


class Group:
    """The tensors of one dtype, one after the other in the order of the content. It starts with section `first`."""

    def __init__(self, tag: str, first: int) -> None:
        self.tag = tag
        self.first = first
        self.size = 0
        self._names: list[str] = []
        self._starts: list[int] = []

    def add(self, name: str, nbytes: int) -> int:
        """Where the tensor starts in the group."""
        self._names.append(name)
        self._starts.append(self.size)
        self.size += nbytes
        return self._starts[-1]

    @property
    def sections(self) -> int:
        return -(-self.size // SECTION)

    def length(self, section: int) -> int:
        """Bytes of the group's n-th section."""
        return min(SECTION, self.size - section * SECTION)

    def parts(self, section: int) -> Iterator[Part]:
        """What the group's n-th section is made of."""
        start, stop = section * SECTION, section * SECTION + self.length(section)
        number = int(np.searchsorted(self._starts, start, side="right")) - 1
        while start < stop:
            end = self._starts[number + 1] if number + 1 < len(self._starts) else self.size
            own = self._starts[number]
            if end > start:
                yield Part(self._names[number], start - own, min(end, stop) - own)
            start = max(start, min(end, stop))
            number += 1


class Arrangement:
    """Which section holds which bytes of which tensor."""

    def __init__(self, entries: Mapping[str, TensorEntry]) -> None:
        by_tag: dict[str, list[str]] = {}
        for name in sorted(entries, key=lambda name: (entries[name].start, entries[name].stop)):
            if entries[name].stop > entries[name].start:
                by_tag.setdefault(entries[name].tag, []).append(name)
        self.groups: list[Group] = []
        self.places: dict[str, tuple[Group, int]] = {}
        self.sections = 1  # the first holds the header
        for tag, names in by_tag.items():
            group = Group(tag, self.sections)
            for name in names:
                self.places[name] = (group, group.add(name, entries[name].stop - entries[name].start))
            self.groups.append(group)
            self.sections += group.sections


def differences(content: Bytes, tag: str) -> Bytes:
    """A section's bytes as they are coded: integers of `_DIFFERENCES` less the one before, modulo their range."""
    if tag not in _DIFFERENCES:
        return content
    items: npt.NDArray[Any] = content.view(_DIFFERENCES[tag])
    before = np.zeros(1, items.dtype)
    changes: Bytes = np.diff(items, prepend=before).view(np.uint8)
    return changes


def sums(coded: Bytes, tag: str) -> Bytes:
    """The inverse of `differences`."""
    if tag not in _DIFFERENCES:
        return coded
    items: npt.NDArray[Any] = coded.view(_DIFFERENCES[tag])
    content: Bytes = np.cumsum(items, dtype=items.dtype).view(np.uint8)
    return content
