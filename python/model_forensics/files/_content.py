"""What a file holds, read at any place, whether it is stored plain or encrypted."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from model_forensics.errors import InputRefused
from model_forensics.files._open import open_regular

FileIdentity = tuple[int, int, int, int]  # device, inode, size, modification time
_PIECE: Final = 1 << 20


class Content(Protocol):
    """A checked file. Thread-safe; holds no open file."""

    @property
    def path(self) -> Path: ...

    @property
    def size(self) -> int:
        """Bytes of content; of an encrypted file, of what it holds when decrypted."""
        ...

    @property
    def identity(self) -> FileIdentity: ...

    @property
    def fingerprint(self) -> Hashable:
        """Equal for equal content read in the same way: what is cached of it is found by this."""
        ...

    def fill(self, start: int, target: memoryview) -> None:
        """Read the bytes from `start` on into `target`, all of them.

        Raises:
            InputRefused: there are fewer, the file was changed since it was opened, or cannot be read.
            EncryptionError: they are not what was encrypted.
        """
        ...

    def release_memory(self) -> None:
        """Keep little of what was read, of all files; what is asked for again is read again."""
        ...

    @property
    def kept_bytes(self) -> int:
        """What all files of this kind keep at most after `release_memory`."""
        ...


class PlainContent:
    """A file that is stored as it is; implements `Content`."""

    def __init__(self, path: Path, identity: FileIdentity, error: type[InputRefused]) -> None:
        self.path = path
        self.identity = identity
        self._error = error

    @property
    def size(self) -> int:
        return self.identity[2]

    @property
    def fingerprint(self) -> Hashable:
        return str(self.path), self.identity

    def fill(self, start: int, target: memoryview) -> None:
        with reopened(self.path, self.identity, self._error) as descriptor:
            read_exactly(descriptor, start, target, self.path, self._error)

    def release_memory(self) -> None:
        """Nothing is kept."""

    @property
    def kept_bytes(self) -> int:
        return 0


@contextmanager
def reopened(path: Path, identity: FileIdentity, error: type[InputRefused]) -> Iterator[int]:
    """The descriptor of a file that was checked before, for as long as it is needed.

    Raises:
        InputRefused: as `error`: it is another file now, or was written to.
    """
    with open_regular(path, error=error) as descriptor:
        if file_identity(descriptor) != identity:
            raise error("the file was changed after it was checked", where=path, cure="Load it again when complete")
        yield descriptor


def read_exactly(descriptor: int, start: int, target: memoryview, path: Path, error: type[InputRefused]) -> None:
    """Fill `target` with the file's bytes from `start` on. Raises `error` where the file ends before."""
    done = 0
    while done < len(target):
        count = os.preadv(descriptor, [target[done : done + _PIECE]], start + done)
        if not count:
            raise error("truncated while it was read", where=path, cure="Load it again when complete")
        done += count


def file_identity(descriptor: int) -> FileIdentity:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
