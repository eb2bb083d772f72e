"""Changing the key of everything under a directory, item by item."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from model_forensics.bundle import is_bundle
from model_forensics.bundle.schema import SAMPLES
from model_forensics.cf import is_baseline
from model_forensics.errors import InputRefused, StorageError, UsageError
from model_forensics.files import SEALED_SUFFIX
from model_forensics.rekey.containers import rekey_baseline, rekey_bundle
from model_forensics.rekey.documents import is_document, rekey_document
from model_forensics.rekey.keys import Keys
from model_forensics.rekey.workplace import Workplace

Outcome = Literal["rewritten", "unchanged", "refused"]
_LOST: Final = SAMPLES + SEALED_SUFFIX  # beside no manifest: a broken bundle, to be refused by name
Rewrite = Callable[[Path, Keys, Workplace], str | None]
"""Gives the digest of the content of what it rewrote; None where it has the new key already."""


@dataclass(frozen=True)
class Rekeyed:
    """What became of one item.

    Attributes:
        path: of the bundle, baseline, results file or report.
        outcome: `unchanged`: it was stored with the new key already; `refused`: see `reason`.
        reason: why it was refused, in words.
        digest: of the content of what was rewritten: a bundle's content digest, a baseline's id, a document's SHA-256.
    """

    path: str
    outcome: Outcome
    reason: str | None = None
    digest: str | None = None


def rekey_directory(directory: Path | str, keys: Keys) -> Iterator[Rekeyed]:
    """Store every bundle, baseline, results file and report under a directory with the new key, one by one.

    Plain ones are encrypted; with no new key, encrypted ones become plain. Each is written anew, read back from disk
    and only then takes the original's name, in one step: at every moment the whole old or the whole new item is there.
    After a kill, the same call repairs what was left and goes on; what has the new key already is left alone. An item
    that is broken, or that no key opens, is reported as refused, and the others follow.

    Links, hidden directories and other files are left alone.

    Raises:
        UsageError: no such directory.
        StorageError: another run works there, or writing failed.
    """
    root = Path(directory).resolve()
    if not root.is_dir():
        raise UsageError("there is no such directory", where=directory, cure="Give a directory of bundles or results")
    inside = root.parent if is_bundle(root) or is_baseline(root) else root  # a bundle holds nothing but its files
    with Workplace(inside) as workplace:
        for path, rewrite in _items(root, keys):
            yield _rekeyed(path, rewrite, keys, workplace)


def _rekeyed(path: Path, rewrite: Rewrite, keys: Keys, workplace: Workplace) -> Rekeyed:
    try:
        digest = rewrite(path, keys, workplace)
        return Rekeyed(str(path), "unchanged" if digest is None else "rewritten", digest=digest)
    except InputRefused as problem:
        return Rekeyed(str(path), "refused", str(problem))


def _items(root: Path, keys: Keys) -> Iterator[tuple[Path, Rewrite]]:
    """Everything that is stored encrypted when there is a key, in the order of the names."""
    if is_bundle(root) or os.path.lexists(root / _LOST):
        yield root, rekey_bundle
        return
    if is_baseline(root):
        yield root, rekey_baseline
        return
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError as problem:
        raise StorageError(
            f"cannot be read: {problem.strerror}", where=root, cure="Check the directory's permissions"
        ) from problem
    for entry in entries:
        if entry.name.startswith(".") or entry.is_symlink():
            continue
        if entry.is_dir():
            yield from _items(Path(entry.path), keys)
        elif is_document(Path(entry.path), keys):
            yield Path(entry.path), rekey_document
