"""Tensors of an encrypted safetensors file: only the segments that hold what is asked for are decrypted."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from model_forensics.errors import InputRefused
from model_forensics.files._content import Content
from model_forensics.files._safetensors_read import SafeTensors, TensorEntry
from model_forensics.files._safetensors_write import DTYPES

_CURE = "Read fewer samples or sites at once"


class SealedTensors(SafeTensors):
    """A checked, encrypted safetensors file. Thread-safe; holds no open file. Arrays are copies of their own."""

    def __init__(
        self, content: Content, entries: dict[str, TensorEntry], metadata: dict[str, str], error: type[InputRefused]
    ) -> None:
        super().__init__(content.path, entries, metadata, content.identity, error)
        self._content = content

    def array(self, name: str) -> npt.NDArray[Any]:
        """Read-only array; BF16 comes as uint16 bit patterns.

        Raises:
            InputRefused: no such tensor, the file was changed since it was opened, or more content than memory.
            EncryptionError: as `open_content`.
        """
        entry = self.entry(name)
        return _read_only(self._read([(entry.start, entry.stop)], entry.tag)).reshape(entry.shape)

    def rows(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """`array(name)[start:stop]` for 0 ≤ start ≤ stop ≤ rows, without decrypting the rest."""
        entry = self.entry(name)
        found = _read_only(self._read([_bounds(entry, start, stop)], entry.tag))
        return found.reshape(stop - start, *entry.shape[1:])

    def joined(self, parts: Sequence[tuple[str, int, int]]) -> npt.NDArray[Any]:
        """The items of `rows` of each part, one after the other; a flat array of its own. All are of one dtype."""
        bounds = [_bounds(self.entry(name), start, stop) for name, start, stop in parts]
        return self._read(bounds, self.entry(parts[0][0]).tag)

    def release_memory(self) -> None:
        """Keep few decrypted segments only, of all files; arrays are copies, so they stay."""
        self._content.release_memory()

    @property
    def kept_bytes(self) -> int:
        return self._content.kept_bytes

    def _read(self, bounds: Sequence[tuple[int, int]], tag: str) -> npt.NDArray[Any]:
        """The bytes [start, stop) of each, one after the other, as a flat array."""
        ends = list(accumulate((stop - start for start, stop in bounds), initial=0))
        try:
            data = np.empty(ends[-1], np.uint8)
        except MemoryError as problem:
            raise self._error(
                f"{ends[-1]:,} bytes, more than there is memory", where=self.path, cure=_CURE
            ) from problem
        for (first, _), (start, stop) in zip(bounds, pairwise(ends), strict=True):
            self._content.fill(first, data[start:stop].data)
        return data.view(DTYPES[tag])


def _bounds(entry: TensorEntry, start: int, stop: int) -> tuple[int, int]:
    """Where rows [start, stop) of a tensor are in the file."""
    row = (entry.stop - entry.start) // max(1, entry.shape[0])
    return entry.start + start * row, entry.start + stop * row


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array.flags.writeable = False
    return array
