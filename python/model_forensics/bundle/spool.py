"""Collects activations on disk while a bundle is written.

Activations arrive sample by sample, but a file holds them site by site, and a recording may be far larger than memory.
All pieces go to one spool file in order of arrival; only their places are kept. At the end each site is copied out of
it. One open file, however many sites.

The spool of an encrypted bundle is encrypted too, so that no plain activation touches the disk, with a key that is
nowhere but in memory: what a killed process leaves behind cannot be read by anybody. It is AES in counter mode, which
can be read at any place; the file is read by the process that wrote it, so it needs no protection against changes.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers import CipherContext

_PIECE = 1 << 20  # bytes held in memory while copying; a multiple of every item size
_BLOCK = 16  # bytes that AES encrypts at once


class Spool:
    """An append-only scratch file. Raises plain `OSError`; the writer names the bundle."""

    def __init__(self, path: Path, *, encrypted: bool = False) -> None:
        self.path = path
        self._file = open(path, "xb+", buffering=0)  # noqa: SIM115 (closed by close())
        self._size = 0
        self._key = secrets.token_bytes(32) if encrypted else None
        self._stream = None if self._key is None else _counter_mode(self._key, 0)

    def append(self, array: npt.NDArray[Any]) -> tuple[int, int]:
        """Append an array's bytes (C order); returns their place (start, bytes)."""
        data = np.asarray(array, order="C").reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
        place = (self._size, len(data))
        for start in range(0, len(data), _PIECE):
            piece = data[start : start + _PIECE]
            self._write(piece if self._stream is None else memoryview(self._stream.update(piece)))
        return place

    def pieces(self, places: list[tuple[int, int]]) -> Iterator[bytes]:
        """The bytes at these places, in pieces of at most 1 MiB."""
        for start, size in places:
            position, end = start, start + size
            while position < end:
                piece = os.pread(self._file.fileno(), min(_PIECE, end - position), position)
                if not piece:
                    raise OSError(f"{self.path.name} was truncated while the bundle was written")
                yield piece if self._key is None else _counter_mode(self._key, position).update(piece)
                position += len(piece)

    def close(self) -> None:
        """Close and remove the scratch file."""
        self._file.close()
        self.path.unlink(missing_ok=True)

    def _write(self, data: memoryview) -> None:
        while data:  # an unbuffered write may be partial
            written = self._file.write(data)
            self._size += written
            data = data[written:]


def _counter_mode(key: bytes, position: int) -> CipherContext:
    """AES-256 in counter mode from this byte on; encrypting and decrypting are the same."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # noqa: PLC0415

    block, inside = divmod(position, _BLOCK)
    stream = Cipher(algorithms.AES(key), modes.CTR(block.to_bytes(_BLOCK, "big"))).encryptor()
    stream.update(bytes(inside))
    return stream
