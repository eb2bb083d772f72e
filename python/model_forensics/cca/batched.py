"""Running rows with edits, many rows with different edits at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

from model_forensics.cca.calls import Calls
from model_forensics.cca.edits import batch_edits
from model_forensics.cca.jobs import Job, Logits
from model_forensics.cca.memory import Memory
from model_forensics.cca.plain import PlainRuns, forward
from model_forensics.cca.shortcut import Shortcut
from model_forensics.cca.whole import WholeForwards
from model_forensics.models import Model
from model_forensics.types import Execution


class BatchedRunner:
    """Runs jobs of one recording on one model, many rows at once: from the middle of their call's run where that is
    exact (`shortcut`), else in whole forwards.

    Attributes:
        plain: runs the same jobs one by one, for checks.
    """

    def __init__(self, model: Model, calls: Calls, position: int, max_rows: int, *, shortcut: bool = True) -> None:
        """
        Args:
            max_rows: rows of all tokens in one forward; of rows that are run at fewer tokens, up to four times as many,
                unless it is 1.
            shortcut: False runs every block in every forward.
        """
        self.model = model
        self.calls = calls
        self.position = position
        self.max_rows = max_rows
        self.memory = Memory(model.device)
        self.plain = PlainRuns(model, calls, position)
        self._shortcut = Shortcut(model, calls, self.plain, position) if shortcut else None
        # A single row takes nothing from a run in which others were beside it: they may have changed it.
        self._whole = WholeForwards(model, calls) if shortcut and max_rows > 1 else None
        self._batch_rows = 0

    @property
    def rows_run(self) -> int:
        """Rows that went through the model, checks and kept runs included."""
        kept = 0 if self._whole is None else self._whole.rows_run
        kept += 0 if self._shortcut is None else self._shortcut.base_rows
        return self._batch_rows + self.plain.rows_run + self.rows_from_middle + kept

    @property
    def rows_from_middle(self) -> int:
        """Of `rows_run`, those that did not run the whole model."""
        return 0 if self._shortcut is None else self._shortcut.rows_from_middle

    @property
    def reason(self) -> str | None:
        """Why jobs are run in whole forwards; None where rows are run from the middle."""
        return "running from the middle is switched off" if self._shortcut is None else self._shortcut.reason

    @property
    def execution(self) -> Execution:
        """What was done until now, for the record."""
        return Execution(
            from_middle=self.reason is None,
            reason=self.reason,
            rows_from_middle=self.rows_from_middle,
            max_batch_rows=self.max_rows,
            memory_limit=self.memory.limit,
            halvings=self.memory.halvings,
        )

    def batches(self, jobs: Sequence[Job]) -> Iterator[list[int]]:
        """Indices of jobs that share a forward: of one call each."""
        by_call: dict[tuple[int, bool], list[int]] = {}
        for index, job in enumerate(jobs):
            by_call.setdefault((job.call, self._takes(job)), []).append(index)
        for (_, short), members in by_call.items():
            if short and self._shortcut is not None:
                groups = self._shortcut.groups([jobs[i] for i in members], self.max_rows, self.memory)
                yield from ([members[i] for i in group] for group in groups)
            else:
                size = self._most_rows(jobs[members[0]].call)
                if self._whole is not None:  # those that need the first blocks together
                    first = [self._whole.first(jobs[i]) for i in members]
                    members = [i for _, i in sorted(zip(first, members, strict=True))]  # noqa: PLW2901
                yield from (members[start : start + size] for start in range(0, len(members), size))

    def run(self, jobs: Sequence[Job]) -> list[Logits]:
        """Jobs of one call at once; [classes] float64 at the scored position of each.

        Out of memory, they are run in halves.

        Raises:
            InterventionError: a replacement does not fit its site.
        """
        if self._shortcut is not None and all(map(self._takes, jobs)):
            return self.memory.in_parts(jobs, self._shortcut.run)
        return self.memory.in_parts(jobs, self._run_whole)

    def _takes(self, job: Job) -> bool:
        return self._shortcut is not None and self._shortcut.serves(job)

    def _most_rows(self, call: int) -> int:
        fitting = self.memory.full_rows(self.model, self.calls.tokens(call))
        return self.max_rows if fitting is None else min(self.max_rows, fitting)

    def _run_whole(self, jobs: Sequence[Job]) -> list[Logits]:
        call = self.calls[jobs[0].call].take([job.row for job in jobs])
        self._batch_rows += call.size
        with nullcontext() if self._whole is None else self._whole.skipping(jobs):
            return forward(self.model, call, batch_edits(list(enumerate(jobs)), call.mask), self.position)
