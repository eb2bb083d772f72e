"""Opening what a file holds, whether it is stored plain or encrypted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from model_forensics.errors import BundleFormatError, InputRefused
from model_forensics.files._content import Content, PlainContent, file_identity
from model_forensics.files._open import open_regular
from model_forensics.files._sealed import Seal
from model_forensics.files._sealed_read import SealedContent

_PIECE: Final = 1 << 20


def open_content(
    path: Path | str, seal: Seal | None = None, *, error: type[InputRefused] = BundleFormatError
) -> Content:
    """Open a file to read at any place; with a seal, a file that was encrypted so.

    Of an encrypted file the last segment is decrypted, so that its size is certain before any of it is used.

    Args:
        path: the file; a link is refused.
        seal: None for a file that is not encrypted.
        error: the class to raise.

    Raises:
        UnsafeFileError: a link or not a regular file.
        InputRefused: as `error`: missing or unreadable.
        EncryptionError: encrypted with another key, or altered, as far as can be told; see `SealedContent`.
    """
    if seal is not None:
        return SealedContent(Path(path), seal, error)
    with open_regular(path, error=error) as descriptor:
        return PlainContent(Path(path), file_identity(descriptor), error)


def read_content(content: Content, start: int = 0, stop: int | None = None) -> bytes:
    """The bytes [start, stop) of a content, by default all. Errors are those of `Content.fill`."""
    data = bytearray((content.size if stop is None else stop) - start)
    content.fill(start, memoryview(data))
    return bytes(data)


def pieces_of(content: Content) -> Iterator[bytes]:
    """All of a content, in order, 1 MiB at a time."""
    for start in range(0, content.size, _PIECE):
        yield read_content(content, start, min(content.size, start + _PIECE))
