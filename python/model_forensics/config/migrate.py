"""Brings an older configuration file to this version's shape, with everything else in it left as it is."""

from __future__ import annotations

import difflib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from model_forensics.config.load import OLD_VERSION, load_config
from model_forensics.config.schema import VERSION, Config
from model_forensics.config.yaml_file import Document, read_yaml
from model_forensics.errors import ConfigError, UsageError
from model_forensics.files import atomic_write, storage_errors


@dataclass(frozen=True)
class Migration:
    """What became of a file.

    Attributes:
        backup: the file as it was; None where nothing had to change.
        diff: in the unified format; empty where nothing had to change.
    """

    file: Path
    backup: Path | None
    diff: str


def migrate_file(path: str | Path) -> Migration:
    """Rewrites a file of version 1.0 as 1.1, after writing what it was to `FILE.v1.0.bak`; one of 1.1 stays as it is.

    Version 1.1 has every key of 1.0 with the same meaning and default. So one line is added, which states the version,
    and not a character besides is touched: comments, order and layout stay, and the configuration is the same.

    Raises:
        ConfigError: the file is refused, before or after.
        UsageError: a backup of something else is there.
        StorageError: it cannot be written; the file is as it was.
    """
    file = Path(path).expanduser().resolve()  # of a link, what it leads to is rewritten
    before = load_config(file, environment={})
    if before.file_version == VERSION:
        return Migration(file, None, "")
    document = read_yaml(file)
    text = _with_version(document)
    backup = file.with_name(f"{file.name}.v{OLD_VERSION}.bak")
    mode = stat.S_IMODE(file.stat().st_mode)
    # The new file is checked before it takes the old one's place.
    draft = file.with_name(f".{file.name}.v{VERSION}.tmp")
    try:
        atomic_write(draft, text.encode())
        with storage_errors(file):
            draft.chmod(mode)
        if not _is_same(draft, before.config):
            raise ConfigError("cannot be migrated", where=file, cure=f'Write version: "{VERSION}" into it by hand')
        _write_backup(backup, document.text, mode, file)
        with storage_errors(file):
            os.replace(draft, file)
    finally:
        with suppress(OSError):  # the first error is the one to report
            draft.unlink()
    old, new = f"{file} (v{OLD_VERSION})", f"{file} (v{VERSION})"
    diff = "".join(difflib.unified_diff(_lines(document.text), _lines(text), fromfile=old, tofile=new))
    return Migration(file, backup, diff)


def _lines(text: str) -> list[str]:
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        lines[-1] += "\n\\ No newline at end of file\n"
    return lines


def _is_same(draft: Path, config: Config) -> bool:
    try:
        loaded = load_config(draft, environment={})
    except ConfigError:
        return False
    return loaded.config == config and loaded.file_version == VERSION


def _write_backup(backup: Path, text: str, mode: int, file: Path) -> None:
    """
    Raises:
        UsageError: another backup is there; the same one is what an interrupted migration left.
    """
    content = text.encode()
    if os.path.lexists(backup):
        if backup.is_file() and backup.read_bytes() == content:
            return
        raise UsageError("this backup is there already", where=backup, cure=f"Move it away, then migrate {file} again")
    atomic_write(backup, content, overwrite=False)
    with storage_errors(backup):
        backup.chmod(mode)


def _with_version(document: Document) -> str:
    """The text with the version as its first key, in the style and at the indentation of the others."""
    text = document.text
    entry = f'version: "{VERSION}"'
    if document.version is not None:  # it states 1.0
        return text[: document.version[0]] + f'"{VERSION}"' + text[document.version[1] :]
    if document.first is None:
        return f"{text}{'' if text.endswith(chr(10)) or not text else chr(10)}{entry}\n"
    newline = "\r\n" if "\r\n" in text else "\n"
    indent = text[text.rfind("\n", 0, document.first) + 1 : document.first]
    between = ", " if document.flow else newline + (indent if not indent.strip() else "")
    return text[: document.first] + entry + between + text[document.first :]
