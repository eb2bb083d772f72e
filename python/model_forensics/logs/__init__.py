"""Log lines: their form, where they go, and what must not be in them.

A leaf on the standard library's `logging`. Everything logs to children of the logger `model_forensics`, which is silent
until a program (ours, or the one that embeds the package) configures it.

A line of text begins with date, time and level. Where something was timed,

    2026-01-31 12:00:00,123 INFO execution_time= 0.482 memory_usage= 512.3 bundle= inc-001 stage= forensics done

the columns are those that `grep execution_time | awk '{print $5}'` expects: seconds, and megabytes that the process has
resident, `-` where the system does not say.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from model_forensics.errors import StorageError
from model_forensics.logs._lines import HIDDEN, JsonLines, Secrets, TextLines, hidden
from model_forensics.spans import span

__all__ = [
    "HIDDEN",
    "LOGGER",
    "Setup",
    "configure_worker",
    "configured",
    "hidden",
    "log_time",
    "present",
    "resident_megabytes",
    "timed",
]

LOGGER = logging.getLogger("model_forensics")
LOGGER.addHandler(logging.NullHandler())  # without it, warnings of a program without logging would go to stderr


@contextmanager
def timed(stage: str, bundle: str | None = None) -> Iterator[None]:
    """Log how long the body took and what memory the process has then; also where it fails.

    Args:
        stage: what it is part of: forensics, search, …
        bundle: the bundle's id.
    """
    started = time.perf_counter()
    try:
        with span(stage):
            yield
    except BaseException as error:
        elapsed = time.perf_counter() - started
        log_time(stage, bundle, elapsed, f"ended by {type(error).__name__}")  # who raised it is heard by other means
        raise
    log_time(stage, bundle, time.perf_counter() - started, "done")


def log_time(stage: str, bundle: str | None, seconds: float, text: str, *, level: int = logging.INFO) -> None:
    """Log what took so long, with the memory that the process has now."""
    if LOGGER.isEnabledFor(level):
        extra = {"execution_time": seconds, "memory_usage": resident_megabytes(), "bundle": bundle, "stage": stage}
        LOGGER.log(level, text, extra=extra)


def resident_megabytes() -> float | None:
    """Memory of this process that is resident now, in MB (10^6 bytes); None where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except FileNotFoundError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def configured(
    *,
    level: str,
    file: Path | None = None,
    as_json: bool = False,
    max_bytes: int = 100_000_000,
    keep: int = 10,
    secrets: Secrets = tuple,
) -> Iterator[None]:
    """Within the body, what the package logs goes to `file`, or to standard error where that is None.

    Args:
        level: DEBUG, INFO, WARNING or ERROR.
        as_json: JSON lines instead of text.
        max_bytes: a file of this size is renamed and a new one begun, without losing a line, whatever the number of
            processes that write to it; renaming by other programs is noticed.
        keep: renamed files that stay.

    Raises:
        StorageError: the file cannot be written to.
    """
    global _present  # noqa: PLW0603  (what `present` gives)
    setup = Setup(level, file, as_json, max_bytes, keep, secrets)
    handler = _handler(setup)
    before = LOGGER.level, _present
    LOGGER.setLevel(level)
    LOGGER.addHandler(handler)
    _present = setup
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        level_before, _present = before
        LOGGER.setLevel(level_before)
        handler.close()


class Setup(NamedTuple):
    """The arguments of `configured`."""

    level: str
    file: Path | None
    as_json: bool
    max_bytes: int
    keep: int
    secrets: Secrets


_present: Setup | None = None


def present() -> Setup | None:
    """How this process logs, for the worker processes that it starts; None where `configured` is not at work."""
    return _present


def configure_worker(setup: Setup | None) -> None:
    """From now on this process logs as the one that started it, from whose `present` the setup is.

    Raises:
        StorageError: the file cannot be written to.
    """
    if setup is not None:
        LOGGER.setLevel(setup.level)
        LOGGER.addHandler(_handler(setup))


def _handler(setup: Setup) -> logging.Handler:
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if setup.file is not None:
        handler = _file_handler(setup.file, setup.max_bytes, setup.keep)
    handler.setFormatter(JsonLines(setup.secrets) if setup.as_json else TextLines(setup.secrets))
    handler.setLevel(setup.level)
    return handler


def _file_handler(file: Path, max_bytes: int, keep: int) -> logging.Handler:
    from model_forensics.logs._file import LogFile  # noqa: PLC0415  (only where there is a log file)

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "ab"):
            pass
        return LogFile(file, max_bytes, keep)
    except OSError as problem:
        raise StorageError(
            f"log lines cannot be written here: {problem.strerror or problem}",
            where=file,
            cure="Correct log_file, or the permissions of its directory",
        ) from problem
