"""Reading encrypted files at any place, and saying what is wrong with one that does not open."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Final

from model_forensics.errors import CiphertextError, EncryptionError, EncryptionKeyError, InputRefused
from model_forensics.files._content import file_identity, read_exactly, reopened
from model_forensics.files._open import open_regular
from model_forensics.files._sealed import FIRST_ROOM, HEADER, ROOM, SEGMENT, Cipher, Seal, content_size, segments_of

CACHED_SEGMENTS: Final = 64
"""Of 1 MiB each, of all files together: samples of one site, and sites of one file, lie beside one another."""
FEW_SEGMENTS: Final = 16  # that stay where memory is short
_TRIED: Final = 16  # places nearby that a segment may have been moved from
_RESTORE: Final = "Restore the file from an intact copy; do not trust this one"
_Key = tuple[Hashable, int]


class SealedContent:
    """An encrypted file; implements `Content`. What it gives was authenticated, segment by segment.

    Raises:
        UnsafeFileError: a link or not a regular file.
        InputRefused: as `error`: missing or unreadable.
        CiphertextError: no file of the format; truncated, reordered, continued or altered, as far as can be told.
        EncryptionKeyError: no segment that was looked at opens: most likely the key is another one.
    """

    def __init__(self, path: Path, seal: Seal, error: type[InputRefused]) -> None:
        self.path = path
        self._seal = seal
        self._error = error
        with open_regular(path, error=error) as descriptor:
            self.identity = file_identity(descriptor)
            stored = self.identity[2]
            header = bytearray(min(HEADER, stored))
            read_exactly(descriptor, 0, memoryview(header), path, error)
            if not header or header[0] != HEADER:
                raise CiphertextError("not an encrypted file, or its first byte was altered", where=path, cure=_RESTORE)
            count, size = segments_of(stored), content_size(stored)
            if count is None or size is None:
                what = f"truncated: no encrypted file has {stored:,} bytes"
                raise CiphertextError(what, where=path, cure=_RESTORE)
            self.size = size
            self._count = count
            self._cipher = Cipher(seal, bytes(header))
            self._segment(count - 1, descriptor)

    @property
    def fingerprint(self) -> Hashable:
        """The seal is part of it: whoever has another key must not get what was decrypted with the right one."""
        return str(self.path), self.identity, self._seal

    def fill(self, start: int, target: memoryview) -> None:
        if start + len(target) > self.size:
            raise self._error("the content ends before", where=self.path, cure=_RESTORE)
        done = 0
        while done < len(target):
            number, inside = _place(start + done)
            segment = _RECENT.get((self.fingerprint, number))
            if segment is None:
                with reopened(self.path, self.identity, self._error) as descriptor:
                    segment = self._segment(number, descriptor)
            piece = memoryview(segment)[inside : inside + len(target) - done]
            target[done : done + len(piece)] = piece
            done += len(piece)

    def release_memory(self) -> None:
        _RECENT.shrink(FEW_SEGMENTS)

    @property
    def kept_bytes(self) -> int:
        return FEW_SEGMENTS * SEGMENT

    def _segment(self, number: int, descriptor: int) -> bytes:
        content = self._opened(descriptor, number)
        if content is None:
            raise self._fault(descriptor, number)
        _RECENT.keep((self.fingerprint, number), content)
        return content

    def _opened(self, descriptor: int, number: int) -> bytes | None:
        return self._cipher.decrypt(self._stored(descriptor, number), number, last=number == self._count - 1)

    def _stored(self, descriptor: int, number: int) -> bytearray:
        start = max(HEADER, number * SEGMENT)
        data = bytearray(min((number + 1) * SEGMENT, self.identity[2]) - start)
        read_exactly(descriptor, start, memoryview(data), self.path, self._error)
        return data

    def _fault(self, descriptor: int, number: int) -> EncryptionError:
        """What is wrong with a file of which this segment does not open."""
        end = self._count - 1
        segment = self._stored(descriptor, number)
        if self._cipher.decrypt(segment, number, last=number != end) is not None:
            cut = f"truncated: it ends with segment {number}, which is not the last one"
            return self._altered(cut if number == end else f"continued after its last segment, {number}")
        others = {0, 1, end - 1, end} - {number, -1} if end else set()
        if all(self._opened(descriptor, other) is None for other in others if other <= end):
            return EncryptionKeyError(
                f"does not open: it was encrypted with another key, or not as {self._seal.role!r}, or was altered",
                where=self.path,
                cure="Give the key that it was encrypted with, or finish `rekey`; if it is, restore an intact copy",
            )
        for other in _nearby(number, end):
            if any(self._cipher.decrypt(segment, other, last=last) is not None for last in (False, True)):
                return self._altered(f"reordered: segment {other} is in the place of segment {number}")
        what = "altered" if number < end else "truncated or altered"
        return self._altered(f"{what}: segment {number} of 0 to {end} is not what was encrypted")

    def _altered(self, what: str) -> CiphertextError:
        return CiphertextError(what, where=self.path, cure=_RESTORE)


def _place(position: int) -> tuple[int, int]:
    """Segment of a byte of content, and where in the segment's content it is."""
    if position < FIRST_ROOM:
        return 0, position
    number, inside = divmod(position - FIRST_ROOM, ROOM)
    return number + 1, inside


def _nearby(number: int, end: int) -> Iterator[int]:
    """Other segments, at most `_TRIED`: looking at all would take long."""
    first = max(0, min(number - _TRIED // 2, end - _TRIED))
    return (other for other in range(first, min(end, first + _TRIED) + 1) if other != number)


class _RecentSegments:
    """The most recently used segments, decrypted."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._segments: OrderedDict[_Key, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: _Key) -> bytes | None:
        with self._lock:
            if key in self._segments:
                self._segments.move_to_end(key)
            return self._segments.get(key)

    def keep(self, key: _Key, content: bytes) -> None:
        with self._lock:
            self._segments[key] = content
            if len(self._segments) > self._limit:
                self._segments.popitem(last=False)

    def shrink(self, limit: int) -> None:
        with self._lock:
            while len(self._segments) > limit:
                self._segments.popitem(last=False)


_RECENT = _RecentSegments(CACHED_SEGMENTS)
