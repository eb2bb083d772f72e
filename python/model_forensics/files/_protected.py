"""Documents (results, reports, cache entries): written encrypted when the process has a key, read plain or encrypted.

A document keeps its name. An encrypted one begins with the byte 0x28, the length of the format's header; no JSON, HTML
or other document that `write_protected` accepts begins so.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from model_forensics.errors import EncryptionKeyError, InputRefused, UsageError
from model_forensics.files._atomic import atomic_files
from model_forensics.files._key import KEY_VARIABLE, EncryptionKey, encryption_key
from model_forensics.files._open import open_regular
from model_forensics.files._open_content import open_content, read_content
from model_forensics.files._sealed import HEADER, Seal, content_size, seal_bytes

_MARK: Final = bytes([HEADER])


def needed_key(where: Path | str) -> EncryptionKey:
    """The key of this process, to open something that is encrypted.

    Raises:
        EncryptionKeyError: there is none, or it is malformed; names `where`.
    """
    key = encryption_key()
    if key is None:
        cure = f"Set {KEY_VARIABLE} to the key that it was encrypted with"
        raise EncryptionKeyError(f"encrypted, and {KEY_VARIABLE} is not set", where=where, cure=cure)
    return key


class Document(NamedTuple):
    """What `write_protected` takes: a file, its content, and what an encrypted one opens as."""

    path: Path
    data: bytes | str
    role: str


def write_protected(path: Path | str, data: bytes | str, *, role: str, overwrite: bool = True) -> bool:
    """Write a whole document atomically (see `atomic_write`), encrypted when the process has a key.

    Args:
        path: the file; it keeps this name.
        data: the content. It must not begin with the byte 0x28, a "(", which marks encrypted documents.
        role: what the document is, for example "results" or "cache/<key>": an encrypted one opens as this only.
        overwrite: replace an existing file.

    Returns:
        Whether it was encrypted.

    Raises:
        UsageError: as `atomic_write`, or the content begins with "(".
        EncryptionKeyError: the process's key is malformed; nothing is written.
        StorageError: as `atomic_write`.
    """
    return write_together([Document(Path(path), data, role)], overwrite=overwrite)


def write_together(documents: Sequence[Document], *, overwrite: bool = True) -> bool:
    """As `write_protected`, of documents that belong together: all are on the disk before the first takes its name.

    When one cannot be written (a full disk), what was there is as it was. They take their names one after the other, in
    the order given, so a kill at that moment can leave the first ones.
    """
    key = encryption_key()
    files = []
    for path, data, role in documents:
        content = data.encode("utf-8") if isinstance(data, str) else data
        if content.startswith(_MARK):
            raise UsageError('a document that begins with "("', where=path, cure="Begin it with another character")
        files.append((path, content if key is None else seal_bytes(content, Seal(key, role))))
    atomic_files(files, overwrite=overwrite)
    return key is not None


def read_protected(path: Path | str, *, role: str, max_bytes: int, error: type[InputRefused]) -> bytes:
    """The content of a document, decrypted when it is encrypted.

    Args:
        path: the file; a link is refused.
        role: as it was written with.
        max_bytes: a larger content is refused before it is read.
        error: the class to raise.

    Raises:
        UnsafeFileError: a link or not a regular file.
        EncryptionKeyError: it is encrypted, and there is no key, a malformed one, or another one.
        CiphertextError: it is encrypted, and was altered.
        InputRefused: as `error`: missing, unreadable or too large.
    """
    sealed, stored = _look(path, error)
    size = (content_size(stored) or 0) if sealed else stored
    if size > max_bytes:
        what = f"{size:,} bytes; at most {max_bytes:,} are read"
        raise error(what, where=path, cure="Check that this is the right file")
    return read_content(open_content(path, Seal(needed_key(path), role) if sealed else None, error=error))


def is_protected(path: Path | str, *, error: type[InputRefused]) -> bool:
    """Whether a document is stored encrypted, by its first byte. Errors are those of `read_protected`."""
    return _look(path, error)[0]


def _look(path: Path | str, error: type[InputRefused]) -> tuple[bool, int]:
    """Whether the document is encrypted, and its stored size."""
    with open_regular(path, error=error) as descriptor:
        return os.pread(descriptor, 1, 0) == _MARK, os.fstat(descriptor).st_size
