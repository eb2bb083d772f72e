"""Runs routes of one call side by side through the halves of a decoder, each from the layer where it enters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from model_forensics import ops
from model_forensics.cca.routes import Route, Write
from model_forensics.models import Model, hooks
from model_forensics.models.middle import BaseRun, Selection

CHUNK_TOKENS = {"cpu": 1024}
"""Tokens that go through a half at once: on a CPU the intermediate values should stay in its last cache."""
DEVICE_CHUNK_TOKENS = 16384


class Walk:
    """One pass over routes.

    All rows are run at the same tokens, from the earliest that any of them needs. Rows are in the order in which they
    enter, so that the rows that are under way are always the first ones.
    """

    def __init__(self, model: Model, base: BaseRun, routes: Sequence[Route]) -> None:
        self._model = model
        self._base = base
        self._order = sorted(range(len(routes)), key=lambda i: routes[i].entry)
        self._routes = [routes[i] for i in self._order]
        self._start = min(route.start for route in routes)
        self._stop = max(route.stop for route in routes)
        self._layers = base.decoder.layers
        self._selections: dict[tuple[int, ...], Selection] = {}  # with masks and position embeddings, for all layers

    def run(self) -> Tensor:
        """[routes, features]: the residual stream after the last block, at the scored token of each, in their order."""
        walking = sum(route.entry < 2 * self._layers for route in self._routes)
        first = self._base.states[0]
        hidden = first.new_empty(walking, self._stop - self._start, first.shape[2])
        active = 0
        for layer in range(min((r.entry // 2 for r in self._routes[:walking]), default=self._layers), self._layers):
            hidden = hidden.to(self._base.states[2 * layer].device)
            active = self._join(hidden, active, 2 * layer)
            self._attend(layer, hidden[:active])
            if layer == self._layers - 1:
                hidden = hidden[torch.arange(walking), self._scored(self._routes[:walking]) - self._start][:, None]
            hidden = hidden.to(self._base.states[2 * layer + 1].device)
            self._transform(layer, hidden[:active], self._start if layer < self._layers - 1 else None)
        final = self._finish(hidden, walking)
        back = torch.empty(len(self._order), dtype=torch.int64)
        back[torch.tensor(self._order)] = torch.arange(len(self._order))
        return final[back.to(final.device)]

    def _finish(self, hidden: Tensor, walking: int) -> Tensor:
        """The scored tokens of all rows, those that only now enter included."""
        last = self._base.states[-1]
        late = self._routes[walking:]
        final = last.new_empty(len(self._routes), 1, last.shape[2])
        final[:walking] = hidden.to(last.device)[:, -1:] if walking else 0
        if late:
            rows = torch.tensor([route.row for route in late], device=last.device)
            final[walking:, 0] = last[rows, self._scored(late).to(last.device)]
            self._bring(final[walking:], late, None)
        self._write_states(final, self._routes, 2 * self._layers, None)
        return final[:, 0]

    def _scored(self, routes: Sequence[Route]) -> Tensor:
        return torch.tensor([route.stop - 1 for route in routes])

    def _join(self, hidden: Tensor, active: int, half: int) -> int:
        """Rows that enter here start from the base run's residual stream; how many rows are under way then."""
        stop = active
        while stop < len(hidden) and self._routes[stop].entry == half:
            stop += 1
        joining = self._routes[active:stop]
        if joining:
            chosen = self._selection(joining)
            hidden[active:stop] = chosen.of(self._base.states[half])[:, self._start : self._stop]
            self._bring(hidden[active:stop], joining, self._start)
        self._write_states(hidden[:stop], self._routes[:stop], half, self._start)
        return stop

    def _bring(self, hidden: Tensor, routes: Sequence[Route], start: int | None) -> None:
        """Put what rows computed ahead, at single tokens, into the residual stream with which they enter."""
        ahead = [(row, route) for row, route in enumerate(routes) if route.ahead is not None]
        if not ahead:
            return
        layer = ahead[0][1].ahead
        assert layer is not None
        assert all(route.ahead == layer for _, route in ahead), "they enter at the same half"
        values, places = Ahead(self._model, self._base, layer, [route for _, route in ahead]).run()
        for (row, _), value, columns in zip(ahead, values, places, strict=True):
            hidden[row, _tokens(columns, start)] = value.to(hidden.device)

    def _attend(self, layer: int, hidden: Tensor) -> None:
        for part, chosen in self._parts(len(hidden), hidden.shape[1]):
            with self._writing(self._routes[part], 2 * layer, self._start):
                hidden[part] += self._base.attend(layer, hidden[part], chosen)

    def _transform(self, layer: int, hidden: Tensor, start: int | None) -> None:
        for part, _ in self._parts(len(hidden), hidden.shape[1]):
            with self._writing(self._routes[part], 2 * layer + 1, start):
                hidden[part] += self._base.transform(layer, hidden[part])

    def _parts(self, rows: int, tokens: int) -> Iterator[tuple[slice, Selection]]:
        size = max(1, CHUNK_TOKENS.get(self._base.states[0].device.type, DEVICE_CHUNK_TOKENS) // tokens)
        count = -(-rows // size)
        bounds = [rows * number // count for number in range(count + 1)] if count else []
        for begin, end in pairwise(bounds):
            yield slice(begin, end), self._selection(self._routes[begin:end])

    def _selection(self, routes: Sequence[Route]) -> Selection:
        rows = tuple(route.row for route in routes)
        key = rows[:1] if len(set(rows)) == 1 else rows
        if key not in self._selections:
            self._selections[key] = Selection(torch.tensor(key), self._start, self._stop)
        return self._selections[key]

    @contextmanager
    def _writing(self, routes: Sequence[Route], half: int, start: int | None) -> Iterator[None]:
        """The edits of one half while it runs over these rows, at tokens from `start` on (None: the scored one)."""
        dtype = self._base.states[0].dtype
        edits = [
            (write, patch_edit(row, write, start, dtype))
            for row, route in enumerate(routes)
            for write in route.branches.get(half, ())
        ]
        with _hooked(self._model, edits, 1 if start is None else self._stop - start):
            yield

    def _write_states(self, hidden: Tensor, routes: Sequence[Route], half: int, start: int | None) -> None:
        edits = [
            patch_edit(row, write, start, hidden.dtype)
            for row, route in enumerate(routes)
            for write in route.states.get(half, ())
        ]
        apply(hidden, edits)


class Ahead:
    """The MLP half of one layer at single tokens: those at which rows differ from the base run before it ends.

    The tokens of all rows are run as one sequence, which the MLP allows.
    """

    def __init__(self, model: Model, base: BaseRun, layer: int, routes: Sequence[Route]) -> None:
        self._model = model
        self._base = base
        self._layer = layer
        self._routes = routes
        self._columns = [self._dirty(route) for route in routes]

    def run(self) -> tuple[list[Tensor], list[np.ndarray]]:
        """Per route, the residual stream after the layer [columns, features], and the columns."""
        middle = [self._middle(route, columns) for route, columns in zip(self._routes, self._columns, strict=True)]
        results = [self._replaced(*pair) for pair in zip(self._routes, self._columns, middle, strict=True)]
        missing = [number for number, result in enumerate(results) if result is None]
        for part in self._parts(missing):
            for number, value in zip(part, self._run(part, middle), strict=True):
                results[number] = value
        return [result for result in results if result is not None], self._columns

    def _parts(self, numbers: Sequence[int]) -> list[list[int]]:
        """Routes whose tokens run at once."""
        most = CHUNK_TOKENS.get(self._base.states[0].device.type, DEVICE_CHUNK_TOKENS)
        parts: list[list[int]] = []
        tokens = 0
        for number in numbers:
            size = self._columns[number].size
            if not parts or tokens + size > most:
                parts.append([])
                tokens = 0
            parts[-1].append(number)
            tokens += size
        return parts

    def _dirty(self, route: Route) -> np.ndarray:
        halves = (2 * self._layer, 2 * self._layer + 1)
        return np.unique(np.concatenate([w.columns for half in halves for w in route.branches.get(half, ())]))

    def _middle(self, route: Route, columns: np.ndarray) -> Tensor:
        """The residual stream between the halves [columns, features]."""
        half = 2 * self._layer
        before, after = self._base.states[half], self._base.states[half + 1]
        value = after[route.row, torch.from_numpy(columns).to(after.device)]
        for write in route.branches.get(half, ()):
            chosen = torch.from_numpy(write.columns).to(before.device)
            added = self._base.decoder.halves[half].finish(write.values.to(before.device, before.dtype))
            written = torch.from_numpy(np.searchsorted(columns, write.columns)).to(value.device)
            value[written] = (before[route.row, chosen] + added).to(value.device)
        return value

    def _replaced(self, route: Route, columns: np.ndarray, middle: Tensor) -> Tensor | None:
        """The result where the MLP's output is replaced at all of the tokens, so that it need not run."""
        writes = route.branches.get(2 * self._layer + 1, ())
        if len(writes) != 1 or not writes[0].whole or writes[0].columns.size != columns.size:
            return None
        added = writes[0].values.to(middle.device, middle.dtype)
        return middle + self._base.decoder.halves[2 * self._layer + 1].finish(added)

    def _run(self, part: Sequence[int], middle: Sequence[Tensor]) -> Sequence[Tensor]:
        hidden = torch.cat([middle[number] for number in part])[None]
        half, edits, offset = 2 * self._layer + 1, [], 0
        for number in part:
            columns = self._columns[number]
            for write in self._routes[number].branches.get(half, ()):
                tokens = offset + np.searchsorted(columns, write.columns)
                edits.append((write, patch_edit(0, write, None, hidden.dtype)._replace(tokens=tokens)))
            offset += columns.size
        with _hooked(self._model, edits, hidden.shape[1]):
            hidden = hidden + self._base.transform(self._layer, hidden)
        return torch.split(hidden[0], [self._columns[number].size for number in part])


@contextmanager
def _hooked(model: Model, edits: Sequence[tuple[Write, ops.PatchEdit]], tokens: int) -> Iterator[None]:
    """The edits of rows of so many tokens; attention may run several of them as one."""
    places: dict[tuple[str, object], list[ops.PatchEdit]] = {}
    for write, edit in edits:
        places.setdefault((write.tap.module, write.tap.side), []).append(edit)
    writes = {
        place: (lambda value, members=members: apply(value.view(-1, tokens, value.shape[-1]), members))
        for place, members in places.items()
    }
    with hooks.write(model.module, writes):  # type: ignore[arg-type]
        yield


def patch_edit(row: int, write: Write, start: int | None, dtype: torch.dtype) -> ops.PatchEdit:
    """The edit in a tensor of which `start` is the first token; None where it holds the scored token alone."""
    values = write.values.to(device="cpu", dtype=dtype)
    features = None if write.tap.start is None else slice(write.tap.start, write.tap.stop)
    return ops.PatchEdit(row, _tokens(write.columns, start), features, values[0] if len(values) == 1 else values)


def _tokens(columns: np.ndarray, start: int | None) -> np.ndarray:
    return np.zeros(len(columns), np.int64) if start is None else columns - start


def apply(hidden: Tensor, edits: Sequence[ops.PatchEdit]) -> None:
    """Write edits into [rows, tokens, features], in place."""
    if edits:
        ops.patch_rows(hidden, ops.patch_plan(edits, tokens=hidden.shape[1], features=hidden.shape[2]))
