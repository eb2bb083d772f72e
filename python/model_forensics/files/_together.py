"""Several documents that belong together: on the disk, all of them, before the first takes its name."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from model_forensics.errors import UsageError
from model_forensics.files._disk import storage_errors, sync
from model_forensics.files._key import encryption_key
from model_forensics.files._sealed import Seal, seal_bytes


class Document(NamedTuple):
    """What `write_protected` takes: a file, its content, and what an encrypted one opens as."""

    path: Path
    data: str
    role: str


def write_together(documents: Sequence[Document], *, overwrite: bool = True) -> None:
    """Write documents atomically, each encrypted when the process has a key. Missing parents are made.

    When one cannot be written (a full disk), what was there is as it was. They take their names one after the other, in
    the order given, so a kill at that moment can leave the first ones.

    Raises:
        UsageError: a file is there and `overwrite` is false, or a directory is there.
        EncryptionKeyError: the process's key is malformed; nothing is written.
        StorageError: disk full, no permission, or any other failure to write.
    """
    key = encryption_key()
    targets = [Path(os.path.abspath(document.path)) for document in documents]
    temporaries = [target.with_name(f".{target.name[:100]}.{secrets.token_hex(6)}.tmp") for target in targets]
    made: list[Path] = []
    try:
        for document, target, temporary in zip(documents, targets, temporaries, strict=True):
            _check(target, overwrite=overwrite)
            content = document.data.encode()
            with storage_errors(target):
                _write(temporary, content if key is None else seal_bytes(content, Seal(key, document.role)))
        for target, temporary in zip(targets, temporaries, strict=True):
            with storage_errors(target):
                if overwrite:
                    os.replace(temporary, target)
                else:
                    _name(temporary, target)
                    made.append(target)
                sync(target.parent)
    except BaseException:
        for target in made:
            _remove(target)
        raise
    finally:
        for temporary in temporaries:
            _remove(temporary)


def _check(target: Path, *, overwrite: bool) -> None:
    if target.is_dir():
        raise UsageError("a directory", where=target, cure="Give the name of a file")
    if not overwrite and os.path.lexists(target):
        raise _exists(target)


def _write(temporary: Path, content: bytes) -> None:
    temporary.parent.mkdir(parents=True, exist_ok=True)
    with open(temporary, "xb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _name(temporary: Path, target: Path) -> None:
    """A link and no rename, which would replace what appeared here meanwhile."""
    try:
        os.link(temporary, target)
    except FileExistsError as problem:
        raise _exists(target) from problem


def _exists(target: Path) -> UsageError:
    return UsageError("already exists", where=target, cure="Choose another name, or ask to overwrite it")


def _remove(path: Path) -> None:
    with suppress(OSError):  # the first error is the one to report
        path.unlink()
