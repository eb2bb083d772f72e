"""Replacing one directory by another so that a reader finds one of them, whole, under the name at any time."""

from __future__ import annotations

import os
from pathlib import Path

from model_forensics.files import _names
from model_forensics.files._atomic import storage_errors, sync
from model_forensics.processes import uninterrupted


def replace_directory(new: Path, target: Path, aside: Path) -> Path:
    """Give `new` the name `target`, and return where what was there is now. All are on one file system.

    Where the file system can exchange two names (Linux: ext4, XFS, btrfs, tmpfs and others), that is one step, and the
    old directory is then at `new`. Elsewhere it takes two: the old one moves to `aside`, the new one to `target`;
    whoever finds `target` missing and `aside` there after a kill moves it back.

    Raises:
        StorageError: it could not be done; `target` is as before.
    """
    with storage_errors(target), uninterrupted():
        if _names.exchanged(new, target):
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
