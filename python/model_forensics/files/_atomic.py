"""Writing so that a reader sees the whole result or nothing: temporary name, fsync, rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from model_forensics.errors import StorageError, UsageError
from model_forensics.files._disk import STORAGE_ERRNOS, storage_error, storage_errors, sync, sync_tree
from model_forensics.files._exchange import replace_directory
from model_forensics.files._unfinished import remove_displaced, unfinished
from model_forensics.processes import uninterrupted


@contextmanager
def atomic_directory(target: Path | str, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield a temporary sibling of `target`; on a clean exit its files are fsynced and it becomes `target`.

    When the body raises, the temporary directory is removed and `target` is as before; one that a killed process left
    is removed by the next one that writes the same target. Missing parents are made.
    With `overwrite`, an existing directory exchanges its name with the new one, or is moved aside where the file system
    cannot do that, and is then removed. An `OSError` of the body
    that has nothing to do with the temporary directory or with storage passes through as it is.

    Raises:
        UsageError: `target` exists and `overwrite` is false, or it is no directory.
        StorageError: disk full, no permission, or any other failure to write.
    """
    target = Path(os.path.abspath(target))
    _check_directory_target(target, overwrite)
    with ExitStack() as stack:
        with storage_errors(target):
            _make_parent(target)
            temporary = stack.enter_context(unfinished(target, Path.mkdir))
        try:
            with _errors_of(temporary, target):
                yield temporary
            with storage_errors(target):
                sync_tree(temporary)
            _check_directory_target(target, overwrite)
            with storage_errors(target), uninterrupted():
                _move_into_place(temporary, target)
                sync(target.parent)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


@contextmanager
def _errors_of(temporary: Path, target: Path) -> Iterator[None]:
    """Errors of writing the temporary directory, which nobody will find, name the target."""
    try:
        yield
    except OSError as problem:
        if problem.errno in STORAGE_ERRNOS or _is_under(problem.filename, temporary):
            raise storage_error(target, problem) from problem
        raise
    except StorageError as problem:
        where = (problem.where or str(target)).replace(str(temporary), str(target))
        raise StorageError(problem.what, where=where, cure=problem.cure) from problem


def atomic_write(target: Path | str, data: bytes | str, *, overwrite: bool = True) -> None:
    """Write a whole file: temporary sibling, fsync, rename. Text is written as UTF-8. Missing parents are made.

    Ctrl-C meanwhile takes effect when it is written.

    Raises:
        UsageError: `target` exists and `overwrite` is false, or it is a directory.
        StorageError: disk full, no permission, or any other failure to write.
    """
    atomic_files([(target, data.encode("utf-8") if isinstance(data, str) else data)], overwrite=overwrite)


def atomic_files(files: Sequence[tuple[Path | str, bytes]], *, overwrite: bool) -> None:
    """As `atomic_write`, of several: all are written before the first one takes its name.

    When one cannot be written, what was there is as it was. They take their names in the order given, so a kill at that
    moment can leave the first ones.
    """
    targets = [Path(os.path.abspath(target)) for target, _ in files]
    for target in targets:
        _check_file_target(target, overwrite)
    with uninterrupted(), ExitStack() as stack:  # cleaning up is not interrupted either
        temporaries = []
        for target, (_, content) in zip(targets, files, strict=True):
            with storage_errors(target):
                _make_parent(target)
                temporaries.append(stack.enter_context(_temporary_file(target)))
                _write(temporaries[-1], content)
        _name_all(temporaries, targets, overwrite=overwrite)


def _name_all(temporaries: Sequence[Path], targets: Sequence[Path], *, overwrite: bool) -> None:
    made: list[Path] = []
    try:
        for temporary, target in zip(temporaries, targets, strict=True):
            with storage_errors(target):
                if overwrite:
                    os.replace(temporary, target)
                else:
                    _link(temporary, target)
                    made.append(target)
                sync(target.parent)
    except BaseException:
        for target in made:
            _remove(target)
        raise


@contextmanager
def _temporary_file(target: Path) -> Iterator[Path]:
    with unfinished(target, _make_file) as temporary:
        try:
            yield temporary
        finally:
            _remove(temporary)


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _remove(path: Path) -> None:
    with suppress(OSError):  # the first error is the one to report
        path.unlink()


def _make_file(path: Path) -> None:
    path.touch(exist_ok=False)


def _make_parent(path: Path) -> None:
    """Make the directory of a path, so that its name is on the disk, too."""
    if not path.parent.is_dir():
        _make_parent(path.parent)
        path.parent.mkdir(exist_ok=True)
        sync(path.parent.parent)


def _link(temporary: Path, target: Path) -> None:
    """Give the file its name only if that is still free, which a rename cannot promise."""
    try:
        os.link(temporary, target)
    except FileExistsError as problem:
        raise _exists(target) from problem


def _exists(target: Path) -> UsageError:
    return UsageError("already exists", where=target, cure="Choose another name, or ask to overwrite it")


def _check_file_target(target: Path, overwrite: bool) -> None:
    if target.is_dir():
        raise UsageError("a directory", where=target, cure="Give the name of a file")
    if not overwrite and os.path.lexists(target):
        raise _exists(target)


def _check_directory_target(target: Path, overwrite: bool) -> None:
    if not os.path.lexists(target):
        return
    if not overwrite:
        raise _exists(target)
    if target.is_symlink() or not target.is_dir():
        raise UsageError("exists and is not a directory", where=target, cure="Choose another name")


def _move_into_place(temporary: Path, target: Path) -> None:
    if not os.path.lexists(target):
        os.rename(temporary, target)
        return
    aside = temporary.with_suffix(".old")
    shutil.rmtree(aside, ignore_errors=True)  # of a killed writer; there is a target, so nobody needs it
    remove_displaced(replace_directory(temporary, target, aside))


def _is_under(name: object, directory: Path) -> bool:
    return isinstance(name, str) and Path(name).is_relative_to(directory)
