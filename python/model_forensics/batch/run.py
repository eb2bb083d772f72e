"""One run of a batch: admits it, hands incidents to workers, records what they find."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from model_forensics.batch import record
from model_forensics.batch.incidents import Incident, Plan, make_plan
from model_forensics.batch.ledger import Ledger
from model_forensics.batch.places import Places
from model_forensics.batch.summary import summarise, write_summary
from model_forensics.batch.worker import Fatal, Message, Ready, Refused, Start, Task
from model_forensics.batch.workers import Died, Worker, Workers
from model_forensics.bundle import find_bundle_names
from model_forensics.errors import UsageError
from model_forensics.types import BatchSummary, IncidentFinding

DEADLY = 2
"""A bundle is poisoned when so many workers ended over it, the last of them while nothing else was at work."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Job:
    """What is the same for every incident.

    Attributes:
        start: makes the analyst, in each worker.
        settings: what results depend on, by name; a batch is resumed with the same ones only.
        workers: processes.
        workers_reason: why so many.
        lease_seconds: how long one incident may take until its worker is ended; None for no limit.
        poisoned: told of a bundle that ended its workers, and why, before the ledger is: workers that end tell nobody
            themselves. After a kill it may be told again of the same `run`.
    """

    start: Start
    settings: Mapping[str, str | None]
    workers: int
    workers_reason: str
    lease_seconds: float | None = None
    poisoned: Callable[[Task, str], None] = lambda task, reason: None


def run_batch(
    directory: Path,
    output: Path,
    prepare: Callable[[Places], Job],
    *,
    resume: bool = False,
    force: bool = False,
    retry: bool = False,
    progress: Progress = lambda stage, done, total: None,
) -> BatchSummary:
    """Analyses every bundle of a directory, each exactly once however often the run is killed and resumed.

    Args:
        directory: bundles, or a single one.
        output: where the ledger, the results and the summary go.
        prepare: says what to do; called once it is sure that the batch may use `output`.
        resume: go on with the batch that is there; the same as starting one where there is none.
        force: forget the batch that is there, and its results.
        retry: with `resume`, also bundles that were refused or poisoned.
        progress: told about "batch", incidents finished and incidents in all.

    Raises:
        UsageError: a batch is there and neither `resume` nor `force`; it is at work; it has other settings.
        LedgerError: the ledger is damaged.
        StorageError: disk full, no permission. What is done stays done.
        WorkerError: workers end before they can start.
        InputRefused: no bundles are there, or what `prepare` and the analyst raise.
    """
    places = Places(output)
    known = None if places.ledger.exists() else find_bundle_names(directory)  # before anything is written
    with places.locked(), Ledger(places.ledger) as ledger:
        _admit(ledger, places, resume=resume, force=force)
        record.recover(ledger, places)
        job = prepare(places)
        _settle(ledger, {"directory": str(directory.resolve()), **job.settings})
        try:
            with Workers(job.start, job.workers, job.lease_seconds) as workers:  # they load while we look what to do
                plan = make_plan(*(known or find_bundle_names(directory)), ledger, retry=retry)
                ledger.touch(plan.moved)
                Foreman(ledger, places, workers, plan, job.poisoned, progress).work()
        finally:  # also on Ctrl-C; after a kill the next run begins with it
            record.recover(ledger, places)
        summary = summarise(ledger, places, directory, job.workers, job.workers_reason)
        write_summary(summary, places)
    return summary


class Foreman:
    """Keeps workers busy until nothing is left."""

    def __init__(
        self,
        ledger: Ledger,
        places: Places,
        workers: Workers,
        plan: Plan,
        poisoned: Callable[[Task, str], None],
        progress: Progress,
    ) -> None:
        self._ledger = ledger
        self._places = places
        self._workers = workers
        self._waiting = deque(plan.waiting)
        self._suspects = deque(plan.suspects)
        self._total = plan.total
        self._poisoned = poisoned
        self._progress = progress

    def work(self) -> None:
        while self._left:
            self._progress("batch", self._total - self._left, self._total)
            self._hand_out()
            for worker, message in self._workers.events():
                self._hear(worker, message)
        self._progress("batch", self._total, self._total)

    @property
    def _left(self) -> int:
        return len(self._waiting) + len(self._suspects) + len(self._workers.busy)

    def _hand_out(self) -> None:
        for worker in self._workers.idle:
            if self._waiting:
                self._give(worker, self._waiting.popleft())
            elif self._suspects and not self._workers.busy:
                self._give(worker, self._suspects.popleft())

    def _give(self, worker: Worker, incident: Incident) -> None:
        self._claim(incident)
        self._places.withdraw(incident.name)  # what an earlier version of the bundle came to
        self._workers.hand_over(worker, incident, self._task(incident))

    def _claim(self, incident: Incident) -> None:
        self._ledger.claim(incident.name, incident.stamp, self._places.run, incident.attempt, incident.deaths)

    def _task(self, incident: Incident) -> Task:
        place = f"{self._places.root} {incident.name} {'-'.join(map(str, incident.stamp))}"
        return Task(
            name=incident.name,
            run=f"{self._ledger.started_at().isoformat()} {place} {incident.attempt}",
            path=incident.path,
            staged=self._places.staged(incident.name),
            result=self._places.result(incident.name),
        )

    def _hear(self, worker: Worker, message: Message | Died) -> None:
        match message:
            case Ready(identity):
                self._check_identity(identity)
                return
            case Fatal(error):
                raise error
            case Died(reason) if worker.incident is None:
                return
        incident = worker.incident
        assert incident is not None, "an answer without a question"
        worker.incident = worker.deadline = None
        match message:
            case IncidentFinding():
                record.record(self._ledger, self._places, incident.name, message)
            case Refused(reason):
                self._ledger.fail(incident.name, "refused", reason, incident.deaths)
            case Died(reason):
                self._note_death(incident, reason)

    def _note_death(self, incident: Incident, reason: str) -> None:
        again = replace(incident, deaths=incident.deaths + 1)
        if again.deaths < DEADLY:
            self._claim(again)
            self._suspects.append(again)
            return
        why = f"ended its worker {again.deaths} times: {reason}"
        self._poisoned(self._task(incident), why)
        self._ledger.fail(incident.name, "poisoned", why, again.deaths)

    def _check_identity(self, identity: Mapping[str, str | None]) -> None:
        """Models are known once they are loaded.

        Raises:
            UsageError: a model has changed since the batch began.
        """
        settings = self._ledger.settings() or {}
        if any(name not in settings for name in identity):
            self._ledger.settle({**settings, **identity})
        else:
            _compare(self._ledger, {**settings, **identity})


def _admit(ledger: Ledger, places: Places, *, resume: bool, force: bool) -> None:
    """
    Raises:
        UsageError: a batch is there, and nobody said what to do with it.
    """
    if ledger.settings() is not None:
        if not resume and not force:
            cure = "Pass --resume to go on with it, --force to forget it, or another output"
            raise UsageError("holds a batch already", where=places.root, cure=cure)
        if force and not resume:
            ledger.forget()
    if ledger.being_cleared():
        places.clear()
        ledger.cleared()


def _settle(ledger: Ledger, settings: dict[str, str | None]) -> None:
    if ledger.settings() is None:
        ledger.settle(settings)
    else:
        _compare(ledger, settings)


def _compare(ledger: Ledger, settings: Mapping[str, str | None]) -> None:
    """
    Raises:
        UsageError: the batch was started with other settings; names them.
    """
    stored = ledger.settings() or {}
    other = [name for name in settings if settings[name] != stored.get(name)]
    if other:
        name = other[0]
        what = f"the batch was started with {name} {stored.get(name)}, and this is {settings[name]}"
        more = f" (also different: {', '.join(other[1:])})" if other[1:] else ""
        cure = "Resume it with the same options and unchanged models, or start anew in another output"
        raise UsageError(what + more, where=ledger.path, cure=cure)
