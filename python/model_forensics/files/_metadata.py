"""What a rewritten file keeps of the one that it replaces."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def keep_metadata(source: Path, target: Path) -> None:
    """Owner, group, permissions, extended attributes and times of modification, as they are."""
    wanted, made = source.stat(), target.stat()
    if (wanted.st_uid, wanted.st_gid) != (made.st_uid, made.st_gid):
        os.chown(target, wanted.st_uid, wanted.st_gid)
    shutil.copystat(source, target)
