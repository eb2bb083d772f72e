"""Rewriting the files of a bundle or a baseline with another key, proven before the original goes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from model_forensics.bundle import load_bundle
from model_forensics.bundle.schema import MANIFEST, SEALED
from model_forensics.cf import Baseline
from model_forensics.cf import store as baselines
from model_forensics.errors import BundleFormatError, InputRefused, StorageError
from model_forensics.files import (
    SEALED_SUFFIX,
    EncryptionKey,
    Storage,
    create_file,
    dump_json,
    holds,
    keep_metadata,
    parse_json,
    pieces_of,
    read_content,
    replace_directory,
    storage_errors,
    sync_tree,
)
from model_forensics.processes import uninterrupted
from model_forensics.rekey.keys import Keys
from model_forensics.rekey.workplace import Workplace

Load = Callable[[Path, EncryptionKey | None], str]  # checks everything; gives a digest of the content


def rekey_bundle(path: Path, keys: Keys, workplace: Workplace) -> str | None:
    """Store a bundle with the new key, and give its content's digest; None where it is stored so already.

    Raises:
        InputRefused: it is broken, or no key opens it.
        StorageError: writing failed, or it did not read back; the original is as it was.
    """
    old = _storage(path, "bundle", MANIFEST, keys)
    if old.key == keys.new:
        return None
    manifest = load_bundle(path, verify=False, key=old.key).manifest
    names = [manifest.stored_name(name) for name in manifest.files]
    return _rewrite(old, keys.new, [*names, MANIFEST], _bundle_digest, workplace)


def rekey_baseline(path: Path, keys: Keys, workplace: Workplace) -> str | None:
    """As `rekey_bundle`, of a fitted baseline; gives its id."""
    old = _storage(path, baselines.CONTAINER, baselines.MANIFEST, keys)
    if old.key == keys.new:
        return None
    return _rewrite(old, keys.new, [baselines.TENSORS, baselines.MANIFEST], _baseline_id, workplace)


def _storage(path: Path, container: str, index: str, keys: Keys) -> Storage:
    """How a container is stored now."""
    if not holds(path, index):
        raise BundleFormatError(f"{index} is missing", where=path, cure="Restore it from an intact copy, or remove it")
    sealed = path / (index + SEALED_SUFFIX)
    if not os.path.lexists(sealed):
        return Storage(path, container, None)
    key, _ = keys.opening(sealed, lambda key: Storage(path, container, key).open(index))
    return Storage(path, container, key)


def _rewrite(old: Storage, key: EncryptionKey | None, names: list[str], load: Load, workplace: Workplace) -> str:
    path = old.root
    with workplace.rewriting(path):
        before = path.lstat()
        content = load(path, old.key)
        new = Storage(workplace.new, old.container, key)
        for name in names:
            with storage_errors(path):
                new.path(name).parent.mkdir(parents=True, exist_ok=True)
            with create_file(new.path(name), new.seal(name)) as out:
                for piece in [_manifest(old, key)] if name == MANIFEST else pieces_of(old.open(name)):
                    out.write(piece)
            with storage_errors(path):
                keep_metadata(old.path(name), new.path(name))
        with storage_errors(path):
            for folder in {Path(name).parent for name in names} | {Path()}:
                keep_metadata(path / folder, new.root / folder)
            sync_tree(new.root)
        _verify(path, new, content, load)
        with uninterrupted():  # until it is sure whose what was displaced is
            displaced = replace_directory(new.root, path, workplace.aside)
            if not os.path.samestat(displaced.lstat(), before):  # replaced by another writer meanwhile: theirs stays
                replace_directory(displaced, path, workplace.aside)
                raise StorageError("it was replaced while its key was changed", where=path, cure="Run it again")
    return content


def _manifest(old: Storage, key: EncryptionKey | None) -> bytes:
    """A bundle's manifest with what it says of its encryption; the rest is as it was."""
    stored = parse_json(read_content(old.open(MANIFEST)), where=str(old.path(MANIFEST)))
    return dump_json({**stored, "encryption": "none" if key is None else SEALED})


def _verify(path: Path, new: Storage, content: str, load: Load) -> None:
    """Read everything back from disk.

    Raises:
        StorageError: it is not what was read.
    """
    try:
        same = load(new.root, new.key) == content
    except InputRefused as problem:
        same, why = False, f": {problem.what}"
    else:
        why = ""
    if not same:
        raise StorageError(
            f"what was written does not read back as what was there{why}; it is as it was",
            where=path,
            cure="Check the disk and the memory of this machine",
        )


def _bundle_digest(path: Path, key: EncryptionKey | None) -> str:
    return load_bundle(path, key=key).content_digest


def _baseline_id(path: Path, key: EncryptionKey | None) -> str:
    return Baseline.load(path, key=key).baseline_id
