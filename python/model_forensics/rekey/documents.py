"""Rewriting a results file, a report or a batch's summary with another key."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from model_forensics.batch.summary import SUMMARY_ROLE
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
    sync,
)
from model_forensics.rekey.keys import Keys
from model_forensics.rekey.workplace import Workplace
from model_forensics.report import REPORT_ROLE, RESULTS_ROLE

_PLAIN: Final = {  # how a plain one begins; other programs' JSON and HTML begin otherwise
    RESULTS_ROLE: re.compile(rb'\{\s*"schema_version": *"[^"]{1,20}",\s*"bundle_id":'),
    SUMMARY_ROLE: re.compile(rb'\{\s*"schema_version": *"[^"]{1,20}",\s*"directory":'),
    REPORT_ROLE: re.compile(rb'<!DOCTYPE html>.*<meta name="generator" content="model-forensics">', re.DOTALL),
}
_SUFFIXES: Final = {".json", ".html"}
_HEAD: Final = 1024


def is_document(path: Path, keys: Keys) -> bool:
    """Whether a file is one that is written encrypted when there is a key, by its first bytes.

    Of those that begin like encrypted ones, and of unreadable ones, nobody else can tell: JSON and HTML are taken for
    documents, which are to be refused by name then, and others are documents when a key opens them.
    """
    if not path.is_file():
        return False
    try:
        if is_protected(path, error=ResultsError):
            return path.suffix in _SUFFIXES or _opens(path, keys)
        return _plain_role(path) is not None
    except InputRefused:
        return path.suffix in _SUFFIXES


def rekey_document(path: Path, keys: Keys, workplace: Workplace) -> str | None:
    """Store a document with the new key, and give its content's SHA-256; None where it is stored so already.

    Raises:
        InputRefused: it is broken, or no key opens it.
        StorageError: writing failed, or it did not read back; the original is as it was.
    """
    if is_protected(path, error=ResultsError):
        key, seal = keys.opening(path, lambda key: _seal(path, key))
        role = seal.role
    else:
        key, seal = None, None
        role = _plain_role(path) or RESULTS_ROLE
    if key == keys.new:
        return None
    source = open_content(path, seal, error=ResultsError)
    content = read_content(source)
    new = None if keys.new is None else Seal(keys.new, role)
    with workplace.rewriting(path):
        with create_file(workplace.new, new) as out:
            out.write(content)
        with storage_errors(path):
            keep_metadata(path, workplace.new)
            sync(workplace.new)
        if read_content(open_content(workplace.new, new)) != content:
            raise StorageError(
                "what was written does not read back as what was there; it is as it was",
                where=path,
                cure="Check the disk and the memory of this machine",
            )
        source.fill(0, memoryview(bytearray(min(1, source.size))))  # still the file that was read
        with storage_errors(path):
            os.replace(workplace.new, path)
            sync(path.parent)
    return sha256_bytes(content)


def _plain_role(path: Path) -> str | None:
    with open_regular(path, error=ResultsError) as descriptor:
        head = os.pread(descriptor, _HEAD, 0)
    return next((role for role, beginning in _PLAIN.items() if beginning.match(head)), None)


def _opens(path: Path, keys: Keys) -> bool:
    try:
        keys.opening(path, lambda key: _seal(path, key))
    except EncryptionKeyError:
        return False
    return True


def _seal(path: Path, key: EncryptionKey) -> Seal:
    """The seal with this key that opens a document, whatever its role."""
    for role in _PLAIN:
        seal = Seal(key, role)
        try:
            open_content(path, seal, error=ResultsError)
        except EncryptionKeyError as problem:
            refusal = problem
        else:
            return seal
    raise refusal
