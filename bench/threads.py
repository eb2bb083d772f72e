"""Threads that the package's operations may use while a contender runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from model_forensics import ops


def core_available() -> bool:
    return ops.backends()["entropy_windows"]["cpp"] == "available"


def use_threads(count: int) -> None:
    """Without the compiled core there is nothing to steer, and no contender with more than one thread."""
    if core_available():
        ops.set_threads(count)


@contextmanager
def threads_kept() -> Iterator[None]:
    """Puts the number of threads back at the end."""
    if not core_available():
        yield
        return
    before = ops.threads()
    try:
        yield
    finally:
        ops.set_threads(before)
