"""Running rows with edits: many rows with different edits in one forward, and one plain row at a time to check it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from model_forensics.cca.calls import Call, Calls
from model_forensics.errors import InterventionError, ModelError
from model_forensics.models import Model, Tap, hooks
from model_forensics.models import rows as model_rows

Logits = npt.NDArray[np.float64]

TOLERANCE = {"float64": 5e-6, "float32": 5e-6, "float16": 8 * 2.0**-10, "bfloat16": 8 * 2.0**-7}
"""Largest |difference| ÷ largest |logit| at which two runs of one row count as equal. The arithmetic differs only in
the order of sums (batch size); for 16-bit types that is a few units in the last place after every layer: 8 of them."""


@dataclass(frozen=True)
class Replacement:
    """What one edit writes: values [rows, features] of the sample's real tokens, or [1, features] for every row.

    `positions` restricts it to some of the sample's own tokens (negative ones count from the end).
    """

    values: torch.Tensor
    positions: tuple[int, ...] | None = None


Edits = Mapping[Tap, Replacement]


@dataclass(frozen=True)
class Job:
    """One row to run: row `row` of call `call` with these edits."""

    call: int
    row: int
    edits: Edits


def tolerance(dtype: str | None) -> float:
    """The tolerance for a model of this dtype; unknown ones are held to float32's."""
    return TOLERANCE.get((dtype or "float32").removeprefix("torch."), TOLERANCE["float32"])


def relative_error(left: Logits, right: Logits) -> float:
    """Largest |left − right| ÷ largest |right|, over entries finite in both.

    Infinite where only one of them is finite.
    """
    finite = np.isfinite(left)
    if left.shape != right.shape or not np.array_equal(finite, np.isfinite(right)):
        return float("inf")
    if not finite.any():
        return 0.0
    error = float(np.abs(left[finite] - right[finite]).max())
    return error / max(float(np.abs(right[finite]).max()), float(np.finfo(np.float32).tiny))


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
        selected = _positions(replacement.positions, current.shape[0], where)
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


def _positions(positions: Sequence[int], rows: int, where: str) -> list[int]:
    outside = [p for p in positions if not -rows <= p < rows]
    if outside:
        raise InterventionError(
            f"positions {outside} are outside the sample's {rows} tokens", where=where, cure="Give positions it has"
        )
    return [p % rows for p in positions]


class BatchedRunner:
    """Runs jobs of one recording on one model, up to `max_rows` rows in a forward."""

    def __init__(self, model: Model, calls: Calls, position: int, max_rows: int) -> None:
        self.model = model
        self.calls = calls
        self.position = position
        self.max_rows = max_rows
        self.rows_run = 0

    def batches(self, jobs: Sequence[Job]) -> Iterator[list[int]]:
        """Indices of jobs that share a forward: of one call each, in the order of the jobs."""
        by_call: dict[int, list[int]] = {}
        for index, job in enumerate(jobs):
            by_call.setdefault(job.call, []).append(index)
        for members in by_call.values():
            for start in range(0, len(members), self.max_rows):
                yield members[start : start + self.max_rows]

    def run(self, jobs: Sequence[Job]) -> list[Logits]:
        """One forward over jobs of one call; [classes] float64 at the scored position of each.

        Raises:
            InterventionError: a replacement does not fit its site.
        """
        call = self.calls[jobs[0].call].take([job.row for job in jobs])
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
        self.rows_run += call.size
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
