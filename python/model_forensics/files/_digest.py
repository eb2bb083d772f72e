"""SHA-256 digests, written `sha256:<64 hexadecimal digits>`."""

from __future__ import annotations

import hashlib
from pathlib import Path

from model_forensics.errors import BundleFormatError, InputRefused
from model_forensics.files._open_content import open_content, pieces_of
from model_forensics.files._sealed import Seal


def sha256_bytes(data: bytes | bytearray | memoryview) -> str:
    """Digest of bytes in memory."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def sha256_file(path: Path | str, *, seal: Seal | None = None, error: type[InputRefused] = BundleFormatError) -> str:
    """Digest of what a file holds, read in pieces of 1 MiB; with a seal, of what an encrypted one holds.

    Raises:
        UnsafeFileError: a link or not a regular file.
        InputRefused: as `error`: missing or unreadable.
        EncryptionError: as `open_content`.
    """
    digest = hashlib.sha256()
    for piece in pieces_of(open_content(path, seal, error=error)):
        digest.update(piece)
    return "sha256:" + digest.hexdigest()
