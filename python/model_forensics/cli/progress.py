"""Progress on stderr: a bar on a terminal, plain lines elsewhere, nothing for what takes under a second."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_PATIENCE = 1.0  # seconds without an answer before a person wants to see movement
_LINE_EVERY = 5.0  # seconds between lines where no terminal redraws them


class Reporter:
    """Callable with (stage, done, total), as stages report; a context manager that cleans the line up."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._started = time.monotonic()
        self._last_line = 0.0
        self._bar: Progress | None = None
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if self._quiet or now - self._started < _PATIENCE:
            return
        if sys.stderr.isatty():
            self._draw(stage, done, total)
        elif now - self._last_line >= _LINE_EVERY:
            self._last_line = now
            print(f"{stage}: {done} of {total}" if total else f"{stage}: {done}", file=sys.stderr)

    def _draw(self, stage: str, done: int, total: int) -> None:
        if self._bar is None:
            from rich.console import Console  # noqa: PLC0415  (rich loads only when something is drawn)
            from rich.progress import Progress  # noqa: PLC0415

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._bar.start()
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=total or None)
        self._bar.update(self._tasks[stage], completed=done, total=total or None)
