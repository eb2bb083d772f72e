"""Interventions on the rows of a batch, against one indexing assignment an edit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from bench import inputs
from bench.contest import Contender, Contest, ours
from bench.plugin import Size
from model_forensics import ops


def edits_of(rows: int, tokens: int, features: int) -> list[ops.PatchEdit]:
    """What a batched search asks for: a donor's head at every token, a mean at one token, zeroed neurons."""
    random = np.random.default_rng(inputs.SEED)
    head = features // 16
    donor = random.standard_normal((tokens, head), dtype=np.float32)
    mean = random.standard_normal(features, dtype=np.float32)
    neurons = np.sort(random.choice(features, 32, replace=False))
    kinds: list[Callable[[int], ops.PatchEdit]] = [
        lambda row: ops.PatchEdit(row, None, slice(row % 16 * head, (row % 16 + 1) * head), donor),
        lambda row: ops.PatchEdit(row, slice(tokens - 1, tokens), None, mean),
        lambda row: ops.PatchEdit(row, None, neurons, None),
    ]
    return [kinds[row % len(kinds)](row) for row in range(rows)]


def by_indexing(
    hidden: np.ndarray | torch.Tensor, edits: list[ops.PatchEdit], convert: Callable[[object], object]
) -> object:
    for row, tokens, features, value in edits:
        selected = slice(None) if tokens is None else tokens
        chosen = slice(None) if features is None else features
        hidden[row, selected, chosen] = 0 if value is None else convert(value)
    return hidden


def test_beam(contest: Contest, size: Size) -> None:
    """The batch of a search: many rows, an edit each."""
    shape = (size(192, 6), size(128, 4), size(1024, 64))
    hidden = np.random.default_rng(inputs.SEED).standard_normal(shape, dtype=np.float32)
    edits = edits_of(*shape)
    plan = ops.patch_plan(edits, tokens=shape[1], features=shape[2])
    expected = hidden.copy()
    ops.patch_rows(expected, plan, backend="numpy")

    def patched(backend: str) -> np.ndarray:
        ops.patch_rows(hidden, plan, backend=backend)
        return hidden

    def check(result: object) -> None:
        np.testing.assert_array_equal(np.asarray(result), expected)
        hidden[:] = original  # the next contender starts from the unpatched states

    original = hidden.copy()
    tensor = torch.from_numpy(hidden)
    written = sum(int(np.count_nonzero(expected[row] != original[row])) for row in range(shape[0]))
    contest.run(
        "patch_rows",
        unit="value",
        given=f"float32 {list(shape)}, an edit a row: head from a donor, mean at a token, 32 neurons to zero",
        contenders=[
            *ours("patch_rows", patched, check, written),
            Contender("NumPy indexing", lambda: by_indexing(hidden, edits, np.asarray), check, written),
            Contender("torch indexing", lambda: by_indexing(tensor, edits, torch.as_tensor), check, written),
        ],
    )
