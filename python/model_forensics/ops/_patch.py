"""Interventions on hidden states: many edits of many rows in one launch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from model_forensics.errors import UsageError
from model_forensics.ops import _check, _dispatch, _patch_plan, _words
from model_forensics.ops import _patch_table as table
from model_forensics.ops._patch_plan import PatchEdit, PatchPlan

__all__ = ["PatchEdit", "PatchPlan", "patch_plan", "patch_rows"]

_OP = "patch_rows"


def patch_plan(edits: Sequence[PatchEdit], *, tokens: int, features: int) -> PatchPlan:
    """Pack edits once, for any number of calls of `patch_rows`.

    Values are copied into the plan, an array that several edits share once. They are moved bit by bit and never
    converted: give them the dtype of the hidden states. Values on a GPU stay there.

    Args:
        edits: no two may write the same element: in one launch neither would be the later one.
        tokens: tokens of the hidden states, padding included.
        features: their features.

    Raises:
        UsageError: an edit does not fit, with its number: a row, token or feature that is negative, too large or
            selected twice, a value of another shape or dtype, or edits that overlap.
    """
    tokens = _check.integer(_patch_plan.OP, "tokens", tokens, 0, 1 << 48)
    features = _check.integer(_patch_plan.OP, "features", features, 0, 1 << 48)
    return _patch_plan.pack(edits, tokens, features)


def patch_rows(hidden: Any, plan: PatchPlan, *, backend: str = "auto") -> None:
    """Write a plan's edits into hidden states, in place.

    Elements are moved as 16- or 32-bit words, so that all backends give the same bits: NaN payloads, −0 and denormals
    survive. A CPU tensor is written through its own memory, without a copy. On a GPU the plan is copied to the device
    at its first use there and kept; the edits are one launch on the current stream.

    Args:
        hidden: [rows, tokens, features] of the plan's tokens, features and dtype, with at least its rows. A writeable
            NumPy array of float32, float16 or uint16 (bit patterns of bfloat16), or a torch tensor of float32, float16
            or bfloat16. The features must be adjacent in memory; rows and tokens may have any stride that keeps them
            apart. A tensor that requires gradients is refused, because autograd would not see the edit; inference
            tensors are fine.
        plan: from `patch_plan`.
        backend: "auto" or the name of a backend.

    Raises:
        UsageError: hidden is not as above.
        BackendUnavailable: the backend cannot serve.
    """
    words = _words.Words.of(hidden, f"{_OP}, hidden")
    choice = _dispatch.select(_OP, hidden, backend)
    tensor = _words.is_tensor(hidden)
    if tensor and hidden.requires_grad:
        raise UsageError(
            "hidden requires gradients, and autograd would not see the edit",
            where=_OP,
            cure="Run the model under torch.no_grad(), or pass hidden.detach()",
        )
    _check_layout(words)
    _check_fit(words, plan)
    if choice.backend in _dispatch.GPU_OPERATIONS:
        choice.module.patch_rows(words.data, plan)  # the plan, because what is on the device is kept with it
    else:
        choice.module.patch_rows(words.data, plan.edits, plan.indices, plan.values.astype(words.data.dtype, copy=False))
    if tensor:
        import torch  # noqa: PLC0415 - it is loaded, the caller has a tensor of it

        torch.autograd.graph.increment_version(hidden)  # what was saved for a backward pass before is now stale
    _dispatch.record(choice)


def _check_layout(words: _words.Words) -> None:
    data = words.data
    if len(words.shape) != 3:
        raise UsageError(f"hidden has shape {list(words.shape)}", where=_OP, cure="Pass [rows, tokens, features]")
    is_numpy = isinstance(data, np.ndarray)
    if is_numpy and not data.flags.writeable:
        raise UsageError("hidden is read-only", where=_OP, cure="Pass a copy")
    strides = [n // data.itemsize for n in data.strides] if is_numpy else list(data.stride())
    whole = not is_numpy or all(n % data.itemsize == 0 for n in data.strides)
    rows, tokens, features = ((size, stride) for size, stride in zip(words.shape, strides, strict=True))
    reach = 1
    apart = whole and (features[0] <= 1 or features[1] == 1)
    for size, stride in (features, *sorted((rows, tokens), key=lambda pair: pair[1])):
        if size > 1:
            apart = apart and stride >= reach
            reach += (size - 1) * stride
    if not apart and 0 not in words.shape:
        raise UsageError(
            f"hidden has strides of {strides} elements",
            where=_OP,
            cure="Pass it with adjacent features, and rows and tokens that share no memory (hidden.contiguous())",
        )


def _check_fit(words: _words.Words, plan: PatchPlan) -> None:
    rows, tokens, features = words.shape
    if (tokens, features) != (plan.tokens, plan.features):
        raise UsageError(
            f"hidden has {tokens} tokens and {features} features, the plan {plan.tokens} and {plan.features}",
            where=_OP,
            cure="Make the plan for these hidden states",
        )
    if plan.rows > rows:
        number = int(np.argmax(plan.edits[:, table.ROW]))
        raise UsageError(
            f"edit {number} is of row {plan.rows - 1}, and hidden has {rows} rows", where=_OP, cure="Correct its row"
        )
    if plan.dtype not in (None, words.dtype):
        raise UsageError(
            f"hidden is {words.dtype}, and the plan's values are {plan.dtype}",
            where=_OP,
            cure="Convert the values to the dtype of hidden before the plan is made",
        )
    if plan.device not in ("cpu", words.device):
        raise UsageError(
            f"hidden is on '{words.device}', and the plan's values are on '{plan.device}'",
            where=_OP,
            cure="Copy the values to the device of hidden, or to host memory, before the plan is made",
        )
