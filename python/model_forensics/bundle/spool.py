"""Collects activations on disk while a bundle is written.

Activations arrive sample by sample, but a file holds them site by site, and a recording may be far larger than memory.
All pieces go to one spool file in order of arrival; only their places are kept. At the end each site is copied out of
it. One open file, however many sites.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_PIECE = 1 << 20  # bytes held in memory while copying; a multiple of every item size


class Spool:
    """An append-only scratch file. Raises plain `OSError`; the writer names the bundle."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "xb+", buffering=0)  # noqa: SIM115 (closed by close())
        self._size = 0

    def append(self, array: npt.NDArray[Any]) -> tuple[int, int]:
        """Append an array's bytes (C order); returns their place (start, bytes)."""
        data = np.asarray(array, order="C").reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
        place = (self._size, len(data))
        while data:  # an unbuffered write may be partial
            written = self._file.write(data)
            self._size += written
            data = data[written:]
        return place

    def pieces(self, places: list[tuple[int, int]]) -> Iterator[bytes]:
        """The bytes at these places, in pieces of at most 1 MiB."""
        for start, size in places:
            position, end = start, start + size
            while position < end:
                piece = os.pread(self._file.fileno(), min(_PIECE, end - position), position)
                if not piece:
                    raise OSError(f"{self.path.name} was truncated while the bundle was written")
                yield piece
                position += len(piece)

    def close(self) -> None:
        """Close and remove the scratch file."""
        self._file.close()
        self.path.unlink(missing_ok=True)
