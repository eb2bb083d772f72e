"""Compressing the old bundles of a directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from model_forensics.bundle.compress import Compression, compress_bundle
from model_forensics.bundle.reader import find_bundles, is_bundle
from model_forensics.bundle.workplace import WORKPLACE, Workplace
from model_forensics.errors import BundleError, EncryptionError, StorageError
from model_forensics.files import abandoned_in, remove_abandoned, storage_errors
from model_forensics.logs import LOGGER

ABANDONED_AFTER: Final = 86400.0
"""Seconds without a change after which an unlocked unfinished directory is removed: the lock of a writer on another
machine may not be seen here."""


def compress_bundles(
    directory: Path | str,
    older_than: timedelta,
    *,
    dry_run: bool = False,
    keep_going: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Compression]:
    """Rewrite the plain bundles of a directory that are older than so much with the codec `arithmetic`, one by one.

    What a killed run left is repaired first, and what killed recorders left in the directory is removed: unfinished
    bundles that no process of this machine is writing and in which nothing changed for a day. A bundle that is broken
    is reported as refused, and the others follow.

    Args:
        directory: bundles, or a single one.
        older_than: age by the manifest's `created_at`.
        dry_run: change nothing.
        keep_going: report a bundle that cannot be written as refused too, and try the next.
        progress: called with (bundles done, bundles).

    Raises:
        BundleFormatError: there is no bundle.
        StorageError: another run works there, or, without `keep_going`, a bundle could not be written.
    """
    root = Path(directory).absolute()
    recorded_before = datetime.now(UTC) - older_than
    with ExitStack() as stack:
        workplace = None if dry_run else stack.enter_context(Workplace(_parent_of_bundles(root)))
        if workplace is not None and workplace.bundles == root:
            _remove_unfinished(root)
        paths = find_bundles(root)
        for done, path in enumerate(paths, 1):
            try:
                outcome = compress_bundle(path, workplace, recorded_before=recorded_before)
            except (BundleError, EncryptionError, StorageError) as problem:
                if isinstance(problem, StorageError) and not keep_going:
                    raise
                outcome = Compression(str(path), "refused", reason=str(problem))
            yield outcome
            if progress is not None:
                progress(done, len(paths))


def _remove_unfinished(root: Path) -> None:
    with storage_errors(root):
        for place in abandoned_in(root):
            if remove_abandoned(place, unchanged_for=ABANDONED_AFTER):
                LOGGER.info("removed what a killed recorder left: %s", place)


def _parent_of_bundles(root: Path) -> Path:
    """The directory itself where it holds bundles; its parent where it is one, or was one that a killed run moved."""
    moved = not root.exists() and (root.parent / WORKPLACE).is_dir()
    return root.parent if moved or is_bundle(root) else root
