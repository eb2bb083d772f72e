"""Running rows with edits: many rows with different edits in one forward, and one plain row at a time to check it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext

import numpy as np
import torch

from model_forensics.cca.calls import Call, Calls
from model_forensics.cca.jobs import (
    Job,
    Logits,
    Replacement,
    checked_positions,
)
from model_forensics.cca.memory import Memory
from model_forensics.cca.shortcut import Shortcut
from model_forensics.cca.whole import WholeForwards
from model_forensics.errors import InterventionError, ModelError
from model_forensics.models import Model, Tap, hooks
from model_forensics.models import rows as model_rows
from model_forensics.types import Execution


def write_rows(value: torch.Tensor, row: int, mask: torch.Tensor | None, replacement: Replacement, where: str) -> None:
    """Overwrite one batch row of `value` in place: the inverse of `models.rows.to_rows`.

    Args:
        value: [B, features], [B, T, features] or [B, channels, height, width]; the caller's own copy.

    Raises:
        InterventionError: the replacement has other rows or features than the site has for this sample.
    """
    current = model_rows.to_rows(value, mask, row)
    new = replacement.values
    if new.dim() != 2 or new.shape[1] != current.shape[1] or new.shape[0] not in (1, current.shape[0]):
        raise InterventionError(
            f"replacement of shape {list(new.shape)} does not fit {list(current.shape)}",
            where=where,
            cure="Use a donor with the same number of tokens and features",
        )
    new = new.to(device=value.device, dtype=value.dtype).expand(current.shape[0], -1)
    if replacement.positions is not None:
        selected = checked_positions(replacement.positions, current.shape[0], where)
        merged = current.clone()
        merged[selected] = new[selected]
        new = merged
    if value.dim() == 2:
        value[row] = new[0]
    elif value.dim() == 3:
        if mask is not None and mask.shape[1] == value.shape[1]:
            value[row, mask[row].to(value.device)] = new
        else:
            value[row] = new
    else:
        value[row] = new.T.reshape(value.shape[1:])


class BatchedRunner:
    """Runs jobs of one recording on one model, many rows at once: from the middle of their call's run where that is
    exact (`shortcut`), else in whole forwards.

    Attributes:
        rows_run: rows that went through the model, checks and the base runs included.
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
        self._shortcut = Shortcut(model, calls, position) if shortcut else None
        self._whole = WholeForwards(model, calls) if shortcut else None
        self._forward_rows = 0

    @property
    def rows_run(self) -> int:
        return self._forward_rows + self.rows_from_middle + (0 if self._whole is None else self._whole.rows_run)

    @property
    def rows_from_middle(self) -> int:
        """Of `rows_run`, those that did not run the whole model; base runs and proofs included."""
        return 0 if self._shortcut is None else self._shortcut.rows_run

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
        with nullcontext() if self._whole is None else self._whole.skipping(jobs):
            return self._forward(call, batch_edits(list(enumerate(jobs)), call.mask))

    def run_plain(self, job: Job, copies: int = 1) -> Logits:
        """The same row alone in its batch, each site overwritten by one simple hook.

        Args:
            copies: run the row this many times in one batch and return the first: what the size of a batch alone
                changes in the model's own arithmetic.
        """
        call = self.calls[job.call].take([job.row])
        edits = {tap: _plain_edit(tap, call.mask, replacement) for tap, replacement in job.edits.items()}
        if copies == 1:
            return self._forward(call, edits)[0]
        repeated = {tap: _repeated(edit, copies) for tap, edit in edits.items()}
        return self._forward(call.take([0] * copies), repeated)[0]

    def _forward(self, call: Call, edits: Mapping[Tap, Callable[[torch.Tensor], torch.Tensor]]) -> list[Logits]:
        self._forward_rows += call.size
        with torch.no_grad(), hooks.edit(self.model.module, edits):
            logits = self.model.forward(call.inputs)
        return scored(logits, call, self.position)


def batch_edits(
    jobs: Sequence[tuple[int, Job]], mask: torch.Tensor | None
) -> dict[Tap, Callable[[torch.Tensor], torch.Tensor]]:
    """Edit functions for one forward in which each job has its own batch row; in execution order of the sites."""
    by_tap: dict[Tap, list[tuple[int, Replacement]]] = {}
    for row, job in jobs:
        for tap, replacement in job.edits.items():
            by_tap.setdefault(tap, []).append((row, replacement))
    return {tap: _batch_edit(tap, mask, by_tap[tap]) for tap in sorted(by_tap, key=lambda t: (t.order, t.start or 0))}


def scored(logits: torch.Tensor, call: Call, position: int) -> list[Logits]:
    """[classes] float64 per row of the call.

    Raises:
        ModelError: the model returned another number of rows than it was given.
    """
    picked = model_rows.scored_logits(logits, call.mask, position).detach().to(torch.float64).cpu().numpy()
    if picked.shape[0] != call.size:
        raise ModelError(
            f"the model returned {picked.shape[0]} rows for a batch of {call.size}",
            cure="The model must treat the first dimension of its inputs as the batch",
        )
    return [np.asarray(row) for row in picked]


def _batch_edit(
    tap: Tap, mask: torch.Tensor | None, members: list[tuple[int, Replacement]]
) -> Callable[[torch.Tensor], torch.Tensor]:
    def edit(value: torch.Tensor) -> torch.Tensor:
        result = value.clone()
        for row, replacement in members:
            write_rows(result, row, mask, replacement, tap.name)
        return result

    return edit


def _repeated(edit: Callable[[torch.Tensor], torch.Tensor], copies: int) -> Callable[[torch.Tensor], torch.Tensor]:
    def everywhere(value: torch.Tensor) -> torch.Tensor:
        return edit(value[:1]).repeat(copies, *[1] * (value.dim() - 1))

    return everywhere


def _plain_edit(
    tap: Tap, mask: torch.Tensor | None, replacement: Replacement
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Built by selection instead of writing rows, so that it shares no code with the batched edit where it can."""
    if replacement.positions is not None:
        return _batch_edit(tap, mask, [(0, replacement)])

    def edit(value: torch.Tensor) -> torch.Tensor:
        new = replacement.values.to(device=value.device, dtype=value.dtype)
        if value.dim() == 2:
            return new[:1].clone()
        if value.dim() == 4:
            return new.expand(value.shape[2] * value.shape[3], -1).T.reshape(value.shape).clone()
        if mask is None or mask.shape[1] != value.shape[1]:
            return new.expand(value.shape[1], -1).unsqueeze(0).clone()
        keep = mask[0].to(value.device)
        spread = torch.zeros(value.shape[1], new.shape[1], device=value.device, dtype=value.dtype)
        if new.shape[0] == 1:
            spread[:] = new
        else:
            spread[keep.nonzero().squeeze(1)] = new
        return torch.where(keep[None, :, None], spread.unsqueeze(0), value)

    return edit
