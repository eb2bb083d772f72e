"""What a job's edits do to the tensors of a forward: written row by row into a batch, or selected for a row alone.

Padding belongs to no sample, and an edit leaves it as it is, but for one thing: what is NaN or Inf there becomes zero.
Attention gives masked tokens the weight zero, and zero times NaN is NaN: a damaged component would go on failing
through its padding although it is replaced at all tokens that there are, and only a second edit behind the next
attention would seem to help. Whatever is finite at padding has no part in the result, so zero is as good as any.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeGuard

import torch

from model_forensics.cca.jobs import Job, Replacement, checked_positions
from model_forensics.errors import InterventionError
from model_forensics.models import Tap
from model_forensics.models import rows as model_rows

Edit = Callable[[torch.Tensor], torch.Tensor]


def write_rows(value: torch.Tensor, row: int, mask: torch.Tensor | None, replacement: Replacement, where: str) -> None:
    """Overwrite one batch row of `value` in place: the inverse of `models.rows.to_rows`.

    Args:
        value: [B, features], [B, T, features] or [B, channels, height, width]; the caller's own copy.
        mask: [B, T] bool, true at tokens; where it is not, NaN and Inf become zero.

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
        if _of_tokens(mask, value):
            real = mask[row].to(value.device)
            value[row] = torch.where(real[:, None] | value[row].isfinite(), value[row], 0)
            value[row, real] = new
        else:
            value[row] = new
    else:
        value[row] = new.T.reshape(value.shape[1:])


def batch_edits(jobs: Sequence[tuple[int, Job]], mask: torch.Tensor | None) -> dict[Tap, Edit]:
    """Edit functions for one forward in which each job has its own batch row; in execution order of the sites."""
    by_tap: dict[Tap, list[tuple[int, Replacement]]] = {}
    for row, job in jobs:
        for tap, replacement in job.edits.items():
            by_tap.setdefault(tap, []).append((row, replacement))
    return {tap: _written(tap, mask, by_tap[tap]) for tap in sorted(by_tap, key=lambda t: (t.order, t.start or 0))}


def plain_edit(tap: Tap, mask: torch.Tensor | None, replacement: Replacement) -> Edit:
    """The edit of a row that is alone in its batch.

    Built by selection instead of writing rows, so that it shares no code with the batched edit where it can.
    """
    if replacement.positions is not None:
        return _written(tap, mask, [(0, replacement)])

    def edit(value: torch.Tensor) -> torch.Tensor:
        new = replacement.values.to(device=value.device, dtype=value.dtype)
        if value.dim() == 2:
            return new[:1].clone()
        if value.dim() == 4:
            return new.expand(value.shape[2] * value.shape[3], -1).T.reshape(value.shape).clone()
        if not _of_tokens(mask, value):
            return new.expand(value.shape[1], -1).unsqueeze(0).clone()
        keep = mask[0].to(value.device)
        spread = torch.zeros(value.shape[1], new.shape[1], device=value.device, dtype=value.dtype)
        if new.shape[0] == 1:
            spread[:] = new
        else:
            spread[keep.nonzero().squeeze(1)] = new
        padding = torch.nan_to_num(value, nan=0.0, posinf=0.0, neginf=0.0)
        return torch.where(keep[None, :, None], spread.unsqueeze(0), padding)

    return edit


def repeated(edit: Edit, copies: int) -> Edit:
    """The edit of a batch that holds one row so many times."""

    def everywhere(value: torch.Tensor) -> torch.Tensor:
        return edit(value[:1]).repeat(copies, *[1] * (value.dim() - 1))

    return everywhere


def _written(tap: Tap, mask: torch.Tensor | None, members: Sequence[tuple[int, Replacement]]) -> Edit:
    def edit(value: torch.Tensor) -> torch.Tensor:
        result = value.clone()
        for row, replacement in members:
            write_rows(result, row, mask, replacement, tap.name)
        return result

    return edit


def _of_tokens(mask: torch.Tensor | None, value: torch.Tensor) -> TypeGuard[torch.Tensor]:
    """Whether the mask is about the tokens of this value."""
    return mask is not None and mask.shape[1] == value.shape[1]
