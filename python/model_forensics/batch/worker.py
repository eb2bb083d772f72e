"""What runs in a worker process: incidents come in through a pipe, what was found goes out.

A worker ends at once on anything that is no named error: memory, a GPU or a library may be in any state then, and its
successor starts clean. So do those whose main process is gone.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from model_forensics.errors import AuditError, InputRefused, LedgerError, ModelForensicsError
from model_forensics.types import IncidentFinding


@dataclass(frozen=True)
class Task:
    """One incident: analyse the bundle, write the result to `staged`, and let it say that it is at `result`.

    `run` names this analysis among all: the same when a batch that was killed begins it again, another one when a
    bundle is analysed anew because it has changed or because it is retried.
    """

    name: str
    run: str
    path: Path
    staged: Path
    result: Path


class Analyst(Protocol):
    """Analyses incidents one after the other; what they have in common is loaded once."""

    @property
    def identity(self) -> dict[str, str | None]:
        """What was loaded: digests of models. Every worker of a batch must have the same."""

    def __call__(self, task: Task) -> IncidentFinding:
        """Writes the result and says what was found.

        Raises:
            InputRefused: this bundle cannot be analysed.
            AuditError, LedgerError, ModelForensicsError: no bundle can (damaged ledger, disk full).
        """


Start = Callable[[], Analyst]
"""Called once in each worker; travels there, so it is a plain function or a dataclass of plain values."""


@dataclass(frozen=True)
class Ready:
    """The worker waits for its first incident."""

    identity: dict[str, str | None]


@dataclass(frozen=True)
class Refused:
    """The incident's bundle cannot be analysed."""

    error: str


@dataclass(frozen=True)
class Fatal:
    """The batch cannot go on."""

    error: ModelForensicsError


@dataclass(frozen=True)
class Crashing:
    """What is about to end the worker."""

    reason: str


Message = Ready | IncidentFinding | Refused | Fatal | Crashing


def serve(connection: Connection, start: Start) -> None:
    """The whole life of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the main one ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        analyst = start()
    except ModelForensicsError as error:
        connection.send(Fatal(error))
        return
    connection.send(Ready(analyst.identity))
    while True:
        try:
            task: Task = connection.recv()
        except EOFError:
            return
        connection.send(_answer(connection, analyst, task))


def _answer(connection: Connection, analyst: Analyst, task: Task) -> Message:
    try:
        return analyst(task)
    except (AuditError, LedgerError) as error:  # refused, but of what all incidents share: this one is not to blame
        return Fatal(error)
    except InputRefused as error:
        return Refused(str(error))
    except ModelForensicsError as error:
        return Fatal(error)
    except BaseException as problem:
        connection.send(Crashing(f"{type(problem).__name__}: {problem}"))
        raise


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None, "a worker was started by another process"
    parent.join()
    os._exit(1)
