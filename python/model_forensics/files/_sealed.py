"""Encrypted files: AES-256-GCM in segments, in the streaming format of Tink (its template AES256_GCM_HKDF_1MB).

A file is a header of 40 bytes (its own length as one byte, a salt of 32, the beginning of the nonces of 7) and segments
of 1 MiB, of which the first is shorter by the header and the last is as long as is left; 16 bytes of each are its tag.
The segments' key is HKDF-SHA256 of the key, the salt, and the associated data as `info`. A segment's nonce is those 7
bytes, its number (4 bytes, big-endian) and one byte that is 1 for the last segment only: so none can be left out, moved
or appended unnoticed. See docs/encryption.md.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from model_forensics.files._disk import storage_errors
from model_forensics.files._key import EncryptionKey

SEALED_SUFFIX: Final = ".enc"
"""What the names of encrypted files end in, inside bundles and baselines."""
HEADER: Final = 40
SEGMENT: Final = 1 << 20
TAG: Final = 16
FIRST_ROOM: Final = SEGMENT - HEADER - TAG
"""Bytes of content in the first segment, when it is full."""
ROOM: Final = SEGMENT - TAG
"""Bytes of content in every further segment, when it is full."""
_SALT: Final = 32
_MOST_SEGMENTS: Final = 1 << 32  # their numbers have four bytes


@dataclass(frozen=True)
class Seal:
    """How a file is encrypted.

    Attributes:
        key: the main key, from which each file's own is derived.
        role: what the file is, for example `bundle/manifest.json`: the associated data. A file that is put in another
            one's place does not open.
    """

    key: EncryptionKey
    role: str


class Sink(Protocol):
    """What content is written to, piece by piece."""

    def write(self, data: bytes | bytearray | memoryview, /) -> int: ...

    def rewrite(self, data: bytes, /) -> None:
        """Replace the first bytes that were written, at most `FIRST_ROOM` of them."""
        ...


class Cipher:
    """Encrypts and decrypts the segments of one file."""

    def __init__(self, seal: Seal, header: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415  (plain files do without)
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

        salt, self._prefix = header[1 : 1 + _SALT], header[1 + _SALT :]
        derive = HKDF(algorithm=SHA256(), length=32, salt=salt, info=seal.role.encode())
        self._aes = AESGCM(derive.derive(seal.key.secret))

    def encrypt(self, content: bytes | bytearray, number: int, *, last: bool) -> bytes:
        return self._aes.encrypt(self._nonce(number, last), content, None)

    def decrypt(self, segment: bytes | bytearray, number: int, *, last: bool) -> bytes | None:
        """The content, or None where the segment is not what was encrypted with this number."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        try:
            return self._aes.decrypt(self._nonce(number, last), segment, None)
        except InvalidTag:
            return None

    def _nonce(self, number: int, last: bool) -> bytes:
        return self._prefix + number.to_bytes(4, "big") + bytes([last])


class PlainWriter:
    """Writes content as it is; a `Sink`."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.write = stream.write

    def rewrite(self, data: bytes, /) -> None:
        self._stream.seek(0)
        self._stream.write(data)
        self._stream.seek(0, os.SEEK_END)


class SealingWriter:
    """Encrypts what is written to it, a segment at a time; a `Sink`.

    The first segment is written last, so that it may be rewritten. Without `finish`, the file stays incomplete.
    """

    def __init__(self, stream: BinaryIO, seal: Seal) -> None:
        header = new_header()
        self._stream = stream
        self._cipher = Cipher(seal, header)
        self._number = 0
        self._held = bytearray()
        self._first = self._held
        stream.write(header)

    def write(self, data: bytes | bytearray | memoryview, /) -> int:
        rest = memoryview(data).cast("B")
        while rest:
            room = (ROOM if self._number else FIRST_ROOM) - len(self._held)
            if not room:  # only now is it known that this segment is not the last one
                self._flush(last=False)
                continue
            self._held += rest[:room]
            rest = rest[room:]
        return memoryview(data).nbytes

    def rewrite(self, data: bytes, /) -> None:
        if len(data) > len(self._first):
            raise ValueError(f"{len(data):,} bytes are more than the first segment holds")
        self._first[: len(data)] = data

    def finish(self) -> None:
        only = self._number == 0
        if not only:
            self._flush(last=True)
        self._stream.seek(HEADER)
        self._stream.write(self._cipher.encrypt(self._first, 0, last=only))

    def _flush(self, *, last: bool) -> None:
        if self._number:
            self._stream.write(self._cipher.encrypt(self._held, self._number, last=last))
        else:
            self._stream.seek(SEGMENT)
        self._number += 1
        self._held = bytearray()


@contextmanager
def create_file(path: Path | str, seal: Seal | None = None) -> Iterator[Sink]:
    """A file to write to, encrypted with a seal; complete after a clean exit only. An existing one is overwritten.

    Raises:
        StorageError: writing failed.
    """
    with storage_errors(path), open(path, "wb") as stream:
        if seal is None:
            yield PlainWriter(stream)
        else:
            writer = SealingWriter(stream, seal)
            yield writer
            writer.finish()


def seal_bytes(content: bytes, seal: Seal) -> bytes:
    """The encrypted form of content that is in memory."""
    header = new_header()
    cipher = Cipher(seal, header)
    starts = [0, *range(FIRST_ROOM, len(content), ROOM)]
    ends = [*starts[1:], len(content)]
    last = len(starts) - 1
    pieces = [
        cipher.encrypt(content[start:end], number, last=number == last)
        for number, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]
    return b"".join([header, *pieces])


def new_header() -> bytes:
    """The header of a new file: it is encrypted with a key of its own."""
    return bytes([HEADER]) + secrets.token_bytes(HEADER - 1)


def segments_of(stored: int) -> int | None:
    """Segments of an encrypted file of so many bytes; None where no file of the format has that size."""
    count = -(-stored // SEGMENT)
    smallest = HEADER + TAG if count == 1 else TAG + 1  # only the one segment of an empty file is empty
    fits = 0 < count <= _MOST_SEGMENTS and stored - SEGMENT * (count - 1) >= smallest
    return count if fits else None


def sealed_size(content: int) -> int:
    """Bytes of the encrypted file of so many bytes of content."""
    segments = 1 if content <= FIRST_ROOM else 1 + -(-(content - FIRST_ROOM) // ROOM)
    return content + HEADER + TAG * segments


def content_size(stored: int) -> int | None:
    """Bytes of content of an encrypted file of so many bytes; None where no file of the format has that size."""
    count = segments_of(stored)
    return None if count is None else stored - HEADER - TAG * count
