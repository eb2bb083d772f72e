"""From a job to its route: where its row leaves the base run, and what is written on the way.

A row is the base run itself until its first edit, and so are its tokens before the first that any edit touches. It
enters the model at an attention half. Edits of a layer's outputs are no reason to run that layer: what they write is
added to the base run's residual stream, and the MLP, in which tokens do not see each other, runs at these tokens alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from model_forensics.cca.jobs import Job, Replacement, checked_positions
from model_forensics.errors import InterventionError
from model_forensics.models import Tap
from model_forensics.models.decoder import Decoder

Columns = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Write:
    """One edit of one row.

    Attributes:
        columns: places in the padded batch, ascending.
        values: [columns or 1, features].
    """

    tap: Tap
    columns: Columns
    values: torch.Tensor

    @property
    def whole(self) -> bool:
        """Whether it replaces all features of what the half or block returns."""
        return self.tap.start is None


@dataclass(eq=False)
class Route:
    """The way of one row.

    Attributes:
        row: of the call.
        start, stop: the tokens that are run; the one before `stop` is scored, later ones cannot change it.
        entry: the attention half from which on the row is run; 2 · layers if only the unembedding is.
        ahead: the layer before, of which the row brings the MLP half's result at some tokens; None without one.
        branches: per half, what is written inside the branch or over its result.
        states: per half, what is written over the residual stream before it; 2 · layers is after the last.
    """

    row: int
    start: int
    stop: int
    entry: int
    ahead: int | None = None
    branches: dict[int, list[Write]] = field(default_factory=dict)
    states: dict[int, list[Write]] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        """Whether anything is written that can reach the scored token."""
        return bool(self.branches or self.states)


class Router:
    """Makes the routes of one call's jobs."""

    def __init__(self, decoder: Decoder, mask: torch.Tensor | None, tokens: int, position: int) -> None:
        """
        Args:
            mask: [B, T] bool, true at real tokens; None where all are.
            position: the scored one, among a row's own tokens.
        """
        self._decoder = decoder
        self._mask = None if mask is None else mask.cpu().numpy()
        self._tokens = tokens
        self._position = position
        blocks = decoder.body.blocks
        self._modules = {"attn": [b.attn for b in blocks], "mlp": [b.mlp for b in blocks]}
        self._modules |= {"head": self._modules["attn"], "neuron": self._modules["mlp"]}
        self._modules["resid"] = [b.path for b in blocks]

    @property
    def end(self) -> int:
        return 2 * self._decoder.layers

    def knows(self, tap: Tap) -> bool:
        """Whether the site is one of the halves', a block's output, or the embedding."""
        if tap.kind == "embed":
            return tap.module == self._decoder.body.embed
        modules = self._modules.get(tap.kind)
        return modules is not None and tap.layer is not None and modules[tap.layer] == tap.module

    def columns(self, row: int) -> Columns:
        """Where the row's own tokens are, [tokens]."""
        return np.arange(self._tokens) if self._mask is None else np.flatnonzero(self._mask[row])

    def scored(self, row: int) -> int:
        return int(self.columns(row)[self._position])

    def route(self, job: Job) -> Route:
        """
        Raises:
            InterventionError: a replacement does not fit.
        """
        own = self.columns(job.row)
        scored = int(own[self._position])
        branches: dict[int, list[Write]] = {}
        states: dict[int, list[Write]] = {}
        for tap, replacement in job.edits.items():
            write = _write(tap, replacement, own)
            half = _half(tap)
            kept, last = (states, self.end) if tap.kind in ("resid", "embed") else (branches, self.end - 2)
            if half >= last:  # past the last attention no token sees another: only the scored one counts
                write = _only(write, lambda columns: columns == scored)
            else:
                write = _only(write, lambda columns: columns <= scored)
            if write.columns.size:
                kept.setdefault(half, []).append(write)
        written = [write.columns[0] for writes in (*branches.values(), *states.values()) for write in writes]
        start = int(min(written, default=scored))
        entry, ahead = _entry(branches, states, self.end)
        return Route(job.row, start, scored + 1, entry, ahead, branches, states)


def _half(tap: Tap) -> int:
    """The half that computes the site; for the embedding and a block's output the half after it."""
    if tap.kind == "embed":
        return 0
    assert tap.layer is not None
    return 2 * tap.layer + {"attn": 0, "head": 0, "mlp": 1, "neuron": 1, "resid": 2}[tap.kind]


def _entry(branches: dict[int, list[Write]], states: dict[int, list[Write]], end: int) -> tuple[int, int | None]:
    """(the attention half from which the row is run, the layer whose MLP half it runs ahead)."""
    first_branch, first_state = min(branches, default=end + 1), min(states, default=end + 1)
    if first_state <= first_branch:
        return min(first_state, end), None
    layer, is_mlp = divmod(first_branch, 2)
    if not is_mlp and not all(write.whole for write in branches[first_branch]):
        return first_branch, None  # a head: its attention has to be run
    return 2 * layer + 2, layer


def _write(tap: Tap, replacement: Replacement, own: Columns) -> Write:
    values = replacement.values
    if values.dim() != 2 or values.shape[0] not in (1, own.size) or (tap.features and values.shape[1] != tap.features):
        raise InterventionError(
            f"replacement of shape {list(values.shape)} does not fit {[own.size, tap.features]}",
            where=tap.name,
            cure="Use a donor with the same number of tokens and features",
        )
    if replacement.positions is None:
        return Write(tap, own, values)
    chosen = sorted(checked_positions(replacement.positions, own.size, tap.name))
    return Write(tap, own[chosen], values if values.shape[0] == 1 else values[chosen])


def _only(write: Write, keep: Callable[[Columns], npt.NDArray[np.bool_]]) -> Write:
    kept = keep(write.columns)
    if kept.all():
        return write
    values = write.values if write.values.shape[0] == 1 else write.values[torch.from_numpy(np.flatnonzero(kept))]
    return Write(write.tap, write.columns[kept], values)


def batched(routes: Sequence[Route], most_rows: int, most_tokens: int) -> list[list[int]]:
    """Indices of routes in batches of similar ones: at most so many rows, and tokens of all rows together."""
    batches: list[list[int]] = []
    tokens = 0
    for index in _ordered(routes):
        size = routes[index].stop - routes[index].start
        if not batches or len(batches[-1]) == most_rows or tokens + size > most_tokens:
            batches.append([])
            tokens = 0
        batches[-1].append(index)
        tokens += size
    return batches


def passes(routes: Sequence[Route], overhead: int) -> list[list[int]]:
    """Indices of routes that go through the layers together, at the tokens of the longest of them.

    Args:
        overhead: tokens that cost as much to run as a pass costs by itself; fewer are run in vain to save a pass.
    """
    groups: list[list[int]] = []
    start, wasted = 0, 0
    for index in _ordered(routes):
        further = len(groups[-1]) * (start - routes[index].start) if groups else 0
        if not groups or wasted + further > overhead:
            groups.append([])
            further = wasted = 0
        groups[-1].append(index)
        start, wasted = routes[index].start, wasted + further
    return groups


def _ordered(routes: Sequence[Route]) -> list[int]:
    return sorted(range(len(routes)), key=lambda i: (-routes[i].start, routes[i].entry))
