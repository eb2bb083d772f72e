"""Rewriting a results file or a report with another key."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from model_forensics.errors import EncryptionKeyError, InputRefused, ResultsError, StorageError
from model_forensics.files import (
    EncryptionKey,
    Seal,
    create_file,
    is_protected,
    keep_metadata,
    open_content,
    open_regular,
    read_content,
    sha256_bytes,
    storage_errors,
)
from model_forensics.rekey.keys import Keys
from model_forensics.rekey.workplace import Workplace
from model_forensics.report import REPORT_ROLE, RESULTS_ROLE

ROLES: Final = {".json": (RESULTS_ROLE, "summary"), ".html": (REPORT_ROLE, "summary")}
_MARKS: Final = {".json": b'"schema_version"', ".html": b'<meta name="generator" content="model-forensics">'}
_HEAD: Final = 1024


def is_document(path: Path) -> bool:
    """Whether a file is one that is written encrypted when there is a key: by its name's end and its first bytes.

    Other JSON and HTML files are left alone. One that cannot be read may be a document: it is to be refused by name.
    """
    if path.suffix not in ROLES or not path.is_file():
        return False
    try:
        with open_regular(path, error=ResultsError) as descriptor:
            head = os.pread(descriptor, _HEAD, 0)
        return is_protected(path, error=ResultsError) or _MARKS[path.suffix] in head
    except InputRefused:
        return True


def rekey_document(path: Path, keys: Keys, workplace: Workplace) -> str | None:
    """Store a document with the new key, and give its content's SHA-256; None where it is stored so already.

    Raises:
        InputRefused: it is broken, or neither key opens it.
        StorageError: writing failed, or it did not read back; the original is as it was.
    """
    if is_protected(path, error=ResultsError):
        key, seal = keys.opening(path, lambda key: _seal(path, key))
    else:
        key, seal = None, None
    if key == keys.new:
        return None
    source = open_content(path, seal, error=ResultsError)
    content = read_content(source)
    role = seal.role if seal is not None else ROLES[path.suffix][0]
    new = None if keys.new is None else Seal(keys.new, role)
    with workplace.rewriting(path):
        with create_file(workplace.new, new) as out:
            out.write(content)
        with storage_errors(path):
            keep_metadata(path, workplace.new)
            _sync(workplace.new)
        if read_content(open_content(workplace.new, new)) != content:
            raise StorageError(
                "what was written does not read back as what was there; it is as it was",
                where=path,
                cure="Check the disk and the memory of this machine",
            )
        source.fill(0, memoryview(bytearray(min(1, source.size))))  # still the file that was read
        with storage_errors(path):
            os.replace(workplace.new, path)
            _sync(path.parent)
    return sha256_bytes(content)


def _seal(path: Path, key: EncryptionKey) -> Seal:
    """The seal with this key that opens a document, whatever its role."""
    for role in ROLES[path.suffix]:
        seal = Seal(key, role)
        try:
            open_content(path, seal, error=ResultsError)
        except EncryptionKeyError as problem:
            refusal = problem
        else:
            return seal
    raise refusal


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
