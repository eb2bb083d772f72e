"""The worker processes as the main process sees them."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Self, cast

from model_forensics.batch.incidents import Incident
from model_forensics.batch.worker import Crashing, Message, Start, Task, serve
from model_forensics.errors import WorkerError
from model_forensics.processes import one_thread_each, uninterrupted

_STARTS = 2  # workers that end before they are ready, one after the other, until the batch gives up
_GRACE = 5.0  # seconds that a worker has to end when it is told to


@dataclass(frozen=True)
class Died:
    """The worker ended, over an incident if it had one."""

    reason: str


@dataclass(eq=False)
class Worker:
    process: SpawnProcess
    connection: Connection
    ready: bool = False
    incident: Incident | None = None
    deadline: float | None = None  # of the incident, time.monotonic()
    last_words: str | None = None

    @property
    def idle(self) -> bool:
        return self.ready and self.incident is None


class Workers:
    """As many workers as asked for; who ends is replaced. Use as a context manager: nobody survives it.

    Processes are spawned, not forked: this one may run threads that hold locks.

    Args:
        start: makes the analyst, in each worker.
        count: how many; with more than one, each computes on one thread.
        lease_seconds: how long one incident may take until its worker is ended; None for no limit.
    """

    def __init__(self, start: Start, count: int, lease_seconds: float | None) -> None:
        self._start = start
        self._count = count
        self._lease = lease_seconds
        self._failed_starts = 0
        self._workers: list[Worker] = []

    def __enter__(self) -> Self:
        try:
            self._fill()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            self._bury(worker)

    @property
    def idle(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.idle]

    @property
    def busy(self) -> list[Worker]:
        return [worker for worker in self._workers if worker.incident is not None]

    def hand_over(self, worker: Worker, incident: Incident, task: Task) -> None:
        """Gives an incident to an idle worker."""
        worker.incident = incident
        worker.deadline = None if self._lease is None else time.monotonic() + self._lease
        with suppress(ConnectionError):  # it has just died, which `events` will say
            worker.connection.send(task)

    def events(self) -> Iterator[tuple[Worker, Message | Died]]:
        """Waits until something happens, and says what.

        Raises:
            WorkerError: workers end before they are ready.
        """
        for worker in self._happened():
            message = self._message(worker)
            if isinstance(message, Crashing):
                worker.last_words = message.reason
            elif isinstance(message, Died):
                self._workers.remove(worker)
                self._bury(worker)
                self._note_start(worker)
                yield worker, message
                self._fill()
            elif message is not None:
                self._failed_starts = 0
                worker.ready = True
                yield worker, message

    def _happened(self) -> list[Worker]:
        deadlines = [worker.deadline for worker in self.busy if worker.deadline is not None]
        patience = max(0.0, min(deadlines) - time.monotonic()) if deadlines else None
        known = {worker.connection: worker for worker in self._workers}
        happened = [known[cast(Connection, connection)] for connection in wait(list(known), patience)]
        for worker in self.busy:
            if worker not in happened and worker.deadline is not None and worker.deadline <= time.monotonic():
                worker.last_words = f"it took longer than {self._lease:g} s and was ended"
                worker.process.kill()
                worker.deadline = None  # its end is the next event
        return happened

    def _message(self, worker: Worker) -> Message | Died | None:
        """The next message; what ended before it was complete has died."""
        try:
            message: Message = worker.connection.recv()
        except (EOFError, OSError):
            worker.process.join(_GRACE)
            return Died(_reason(worker))
        return message

    def _note_start(self, worker: Worker) -> None:
        if worker.ready:
            return
        self._failed_starts += 1
        if self._failed_starts >= _STARTS:
            cure = "See its messages above; with too little memory, try --workers 1"
            raise WorkerError(f"workers end before they can start: {_reason(worker)}", cure=cure)

    def _fill(self) -> None:
        context = get_context("spawn")
        with one_thread_each() if self._count > 1 else nullcontext():
            while len(self._workers) < self._count:
                ours, theirs = context.Pipe()
                process = context.Process(target=serve, args=(theirs, self._start), daemon=True)
                with uninterrupted():  # who is started is known, and so ended
                    process.start()
                    self._workers.append(Worker(process, ours))
                theirs.close()  # so that its end is seen here

    def _bury(self, worker: Worker) -> None:
        worker.process.join(_GRACE)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        worker.connection.close()


def _reason(worker: Worker) -> str:
    code = worker.process.exitcode
    if worker.last_words is not None:
        return worker.last_words
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else str(-code)
        hint = " (the system does this when memory runs out)" if -code == signal.SIGKILL else ""
        return f"killed by {name}{hint}"
    return f"ended with exit code {code}"
