"""What a run is doing and how long that takes, told to whoever listens; where nobody does, nothing is measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

Kind = Literal["stage", "operation"]
Listener = Callable[[str, Kind, int, int], None]
"""Called when a span ends: its name, its kind, and when it began and ended, in ns of `time.perf_counter_ns`."""

_listeners: ContextVar[tuple[Listener, ...]] = ContextVar("listeners", default=())


@contextmanager
def span(name: str, kind: Kind = "stage") -> Iterator[None]:
    """The body is a span; it ends also where the body raises."""
    began = now()
    try:
        yield
    finally:
        ended(name, kind, began)


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Within the body, and in its thread only, `listener` is told of spans."""
    token = _listeners.set((*_listeners.get(), listener))
    try:
        yield
    finally:
        _listeners.reset(token)


def now() -> int:
    """When a span begins; 0 where nobody listens."""
    return time.perf_counter_ns() if _listeners.get() else 0


def ended(name: str, kind: Kind, began: int) -> None:
    """Tells of a span that began at `began`; nothing where nobody listened then."""
    if began and (listeners := _listeners.get()):
        end = time.perf_counter_ns()
        for listener in listeners:
            listener(name, kind, began, end)
