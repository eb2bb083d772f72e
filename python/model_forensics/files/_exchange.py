"""Replacing one directory by another so that a reader finds one of them, whole, under the name at any time."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Final

from model_forensics.files._disk import storage_errors, sync
from model_forensics.processes import uninterrupted

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2
_UNSUPPORTED: Final = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}


def replace_directory(new: Path, target: Path, aside: Path) -> Path:
    """Give `new` the name `target`, and return where what was there is now. All are on one file system.

    Where the file system can exchange two names (Linux: ext4, XFS, btrfs, tmpfs and others), that is one step, and the
    old directory is then at `new`. Elsewhere it takes two: the old one moves to `aside`, the new one to `target`;
    whoever finds `target` missing and `aside` there after a kill moves it back.

    Raises:
        StorageError: it could not be done; `target` is as before.
    """
    with storage_errors(target), uninterrupted():
        if exchanged(new, target):
            displaced = new
        else:
            _moved(new, target, aside)
            displaced = aside
        sync(target.parent)
        sync(displaced.parent)
    return displaced


def _moved(new: Path, target: Path, aside: Path) -> None:
    os.rename(target, aside)
    try:
        sync(aside.parent)
        os.rename(new, target)
    except OSError:
        os.rename(aside, target)
        raise


def exchanged(one: Path, other: Path) -> bool:
    """Whether the two names were exchanged; False where the system or the file system cannot.

    Raises:
        OSError: any other failure.
    """
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), str(other))
