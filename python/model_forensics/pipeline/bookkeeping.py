"""What is written down about every run: the ledger's row of an analysis, and the audit log's lines."""

from __future__ import annotations

import os
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from model_forensics import spans
from model_forensics.errors import LedgerError, ModelForensicsError, StorageError, UsageError
from model_forensics.files import sha256_file
from model_forensics.logs import LOGGER
from model_forensics.pipeline.sources import check_writable
from model_forensics.store import LEDGER_FILE, Action, Ledger, LedgerRow, audited

if TYPE_CHECKING:
    from model_forensics.cf import Baseline
    from model_forensics.config import Config
    from model_forensics.models import Model
    from model_forensics.types import AnalysisResult, Recording


_action: ContextVar[Action | None] = ContextVar("audited action", default=None)
_Method = TypeVar("_Method", bound=Callable[..., Any])


def audited_as(command: str) -> Callable[[_Method], _Method]:
    """For methods of what has a `config`: they are audited where the configuration asks for it.

    They raise also `AuditError` and `StorageError`, where the audit log cannot be appended to.
    """

    def decorate(method: _Method) -> _Method:
        @wraps(method)
        def wrapped(self: Any, *arguments: Any, **named: Any) -> Any:
            with audited(self.config.audit_log, command) as action:
                token = _action.set(None if self.config.audit_log is None else action)
                try:
                    return method(self, *arguments, **named)
                finally:
                    _action.reset(token)

        return cast(_Method, wrapped)

    return decorate


def about(
    *,
    incident: Recording | None = None,
    baseline: Baseline | None = None,
    model: Model | None = None,
    donor: Model | None = None,
    result: Path | None = None,
    benign: Sequence[Recording] = (),
) -> None:
    """Notes digests of what is used or written in the audited action, if there is one."""
    action = _action.get()
    if action is None:
        return
    action.about("incident", None if incident is None else incident.content_digest)
    action.about("baseline", None if baseline is None else baseline.baseline_id)
    action.about("model", None if model is None else model.reference.weights_digest)
    action.about("donor_model", None if donor is None else donor.reference.weights_digest)
    action.about("result", None if result is None else sha256_file(result))
    action.about("benign", [one.content_digest for one in benign if one.content_digest is not None] or None)


class Book:
    """One analysis while it goes on, to be entered in the ledger."""

    def __init__(self, ledger: Ledger, incident: str | Path | Recording, run: str | None) -> None:
        self._ledger = ledger
        self._run = run or secrets.token_hex(16)
        self._path = _absolute(incident if isinstance(incident, str | Path) else incident.path)
        self._recording = None if isinstance(incident, str | Path) else incident
        self._entered = False
        self._seconds: dict[str, float] = defaultdict(float)

    def opened(self, recording: Recording) -> None:
        self._recording = recording
        about(incident=recording)

    def hear(self, name: str, kind: spans.Kind, began: int, ended: int) -> None:
        if kind == "stage":
            self._seconds[name] += (ended - began) / 1e9

    @contextmanager
    def entering(self, result: AnalysisResult, written: Path) -> Iterator[None]:
        """Enters the result in the ledger and then lets the body write its files: a result that is there has its row.

        Args:
            written: the file that the body writes.

        Raises:
            StorageError: the files could not be written; or they are, and the row could not be entered.
        """
        problem: LedgerError | StorageError | None = None
        digest = None if self._recording is None else self._recording.content_digest
        row = LedgerRow.of(result, run=self._run, finished_at=datetime.now(UTC), digest=digest, seconds=self._seconds)
        try:
            self._ledger.append(row)
            self._entered = True
        except (LedgerError, StorageError) as error:  # hours of work are not thrown away for a row
            problem = error
        yield
        about(result=written)
        if problem is not None:
            raise StorageError(
                f"{problem.what}; the result is complete, in {result.export_path}",
                where=problem.where,
                cure=problem.cure,
            ) from problem

    def refused(self, error: ModelForensicsError) -> None:
        """Enters what ended the analysis, unless its row is there; trouble with the ledger is logged."""
        if self._entered:
            return
        recording = self._recording
        row = _refusal(
            self._run,
            self._path,
            error,
            bundle_id=None if recording is None else recording.bundle_id,
            bundle_digest=None if recording is None else recording.content_digest,
            seconds=self._seconds,
        )
        try:
            self._ledger.append(row)
        except (LedgerError, StorageError) as trouble:
            LOGGER.error("the refused analysis is not in the ledger: %s", trouble)


def enter_refusal(config: Config, bundle: Path, run: str, error: ModelForensicsError) -> None:
    """Enters an analysis that could not enter itself, because its process ended.

    Raises:
        LedgerError, StorageError: the ledger could not be written to.
    """
    Ledger(config.output_dir / LEDGER_FILE).append(_refusal(run, _absolute(bundle), error))


@contextmanager
def entered(config: Config, incident: str | Path | Recording, run: str | None = None) -> Iterator[Book]:
    """The body is an analysis, which is entered in the ledger of `output_dir` with its result or its refusal.

    Args:
        run: names this analysis; one of a name is entered once, however often it is begun. None for a new name.

    Contradictory arguments (`UsageError`) and interruptions are no analyses, and make no row.

    Raises:
        LedgerError, StorageError: the ledger could not be written to afterwards.
    """
    path = config.output_dir / LEDGER_FILE
    check_writable(path)
    ledger = Ledger(path)
    ledger.check()
    book = Book(ledger, incident, run)
    try:
        with spans.heard_by(book.hear):
            yield book
    except UsageError:
        raise
    except ModelForensicsError as error:
        book.refused(error)
        raise


def _refusal(run: str, path: str | None, error: ModelForensicsError, **known: Any) -> LedgerRow:
    return LedgerRow(
        run=run,
        finished_at=datetime.now(UTC),
        bundle_path=path,
        error=type(error).__name__,
        message=str(error),
        **known,
    )


def _absolute(path: str | Path | None) -> str | None:
    return None if path is None else os.path.abspath(path)
