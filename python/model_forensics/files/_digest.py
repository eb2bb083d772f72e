"""SHA-256 digests, written `sha256:<64 hexadecimal digits>`."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from model_forensics.errors import BundleFormatError, InputRefused
from model_forensics.files._open import open_regular

_CHUNK = 1 << 20


def sha256_bytes(data: bytes | bytearray | memoryview) -> str:
    """Digest of bytes in memory."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def sha256_file(path: Path | str, *, error: type[InputRefused] = BundleFormatError) -> str:
    """Digest of a file, read in pieces of 1 MiB.

    Raises:
        UnsafeFileError: a link or not a regular file.
        InputRefused: as `error`: missing or unreadable.
    """
    digest = hashlib.sha256()
    with open_regular(path, error=error) as descriptor:
        while piece := os.read(descriptor, _CHUNK):
            digest.update(piece)
    return "sha256:" + digest.hexdigest()
