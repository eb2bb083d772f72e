"""Ctrl-C just before the first, second, … call that changes the disk.

Calls are those of `os`, opening a file to write, the exchange of two names and what SQLite is told to change. Of what
libraries in other languages write, the opening is not seen; all of it is in directories that nobody sees yet.
"""

from __future__ import annotations

import builtins
import io
import os
import signal
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from model_forensics.files import _exchange

CALLS = ("chmod", "fsync", "link", "mkdir", "rename", "replace", "rmdir", "unlink", "utime")
MOST = 500  # moments, which nothing here reaches

Action = Callable[[], bool]
"""Says whether it was interrupted."""


def each_moment(prepare: Callable[[int], Action], check: Callable[[int], None]) -> int:
    """Acts again and again, each time with Ctrl-C at the next moment, until an action ends before it comes.

    Args:
        prepare: makes the state before the action, and the action; told the number of the moment, from 1.
        check: what must hold after an interruption.

    Returns:
        How many moments there are.
    """
    with interruptible():
        for moment in range(1, MOST):
            action = prepare(moment)
            with _pressing(moment) as calls:
                interrupted = action()
            assert interrupted is (calls() >= moment), f"moment {moment} of {calls()}"
            if not interrupted:
                return moment - 1
            check(moment)
    raise AssertionError("an action without an end")


def interrupted(act: Callable[[], object]) -> bool:
    """An `Action` of a function."""
    try:
        act()
    except KeyboardInterrupt:
        return True
    return False


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C is not ignored, as it is in what was started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _pressing(moment: int) -> Iterator[Callable[[], int]]:
    """Gives how many calls there were."""
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1
        if calls == moment:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        for name in CALLS:
            patch.setattr(os, name, _counted(getattr(os, name), count))
        patch.setattr(os, "write", _counted(os.write, count, lambda descriptor, _: _is_file(descriptor)))
        patch.setattr(os, "open", _counted(os.open, count, lambda _path, flags, *_, **__: flags & os.O_CREAT))
        writing = _counted(io.open, count, lambda _path, mode="r", *_, **__: set(mode) & set("wxa+"))
        patch.setattr(io, "open", writing)
        patch.setattr(builtins, "open", writing)
        patch.setattr(_exchange, "exchanged", _counted(_exchange.exchanged, count))
        patch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=_connection(count)))
        yield lambda: calls


def _is_file(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _counted(
    call: Callable[..., Any], count: Callable[[], None], changes: Callable[..., object] = lambda *_, **__: True
) -> Callable[..., Any]:
    def counted(*arguments: Any, **named: Any) -> Any:
        if changes(*arguments, **named):
            count()
        return call(*arguments, **named)

    return counted


def _connection(count: Callable[[], None]) -> type[sqlite3.Connection]:
    class Connection(sqlite3.Connection):
        def execute(self, statement: str, *arguments: Any) -> sqlite3.Cursor:
            if not statement.lstrip().startswith(("SELECT", "PRAGMA")):
                count()
            return super().execute(statement, *arguments)

        def executemany(self, *arguments: Any) -> sqlite3.Cursor:
            count()
            return super().executemany(*arguments)

        def executescript(self, script: str) -> sqlite3.Cursor:
            count()
            return super().executescript(script)

    return Connection
