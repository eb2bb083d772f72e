"""Directories that one process at a time works in."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from model_forensics.errors import StorageError
from model_forensics.files._disk import storage_errors


def lock_directory(place: Path, command: str) -> int:
    """A locked descriptor of a directory, which is made (for its owner alone) where it is missing.

    The lock ends when the descriptor is closed, and with the process, however it ends. Whoever holds it may remove the
    directory.

    Raises:
        StorageError: another process holds it, another `command` as the text says; or it cannot be made or opened.
    """
    while True:
        with storage_errors(place):
            place.mkdir(exist_ok=True, mode=0o700)
            descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if place.exists() and os.path.samestat(place.stat(), os.fstat(descriptor)):
                return descriptor
        except BlockingIOError as problem:
            os.close(descriptor)
            what = f"another {command} works in this directory"
            raise StorageError(what, where=place.parent, cure="Wait until it is done") from problem
        os.close(descriptor)  # removed by the one who held it before
