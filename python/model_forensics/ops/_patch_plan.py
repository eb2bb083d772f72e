"""Packs edits into the table that the backends take (see `_patch_table`), and checks them once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from model_forensics.errors import UsageError
from model_forensics.ops import _patch_table as table
from model_forensics.ops import _words
from model_forensics.ops._arrays import Integers

OP: Final = "patch_plan"


class PatchEdit(NamedTuple):
    """One edit of the hidden states of one row.

    Attributes:
        row: the row of the batch.
        tokens: None for all, a slice, or indices (absolute: padding counts), in the order of the values.
        features: None for all, a slice (a head), or indices (neurons), in the order of the values.
        value: None for zero, [features selected] for every token (a mean), or [tokens selected, features selected]
            (a donor's activations). A NumPy array of float32, float16 or uint16 (bit patterns of bfloat16), or a torch
            tensor of float32, float16 or bfloat16.
    """

    row: int
    tokens: slice | Sequence[int] | npt.NDArray[np.integer[Any]] | None = None
    features: slice | Sequence[int] | npt.NDArray[np.integer[Any]] | None = None
    value: Any = None


@dataclass(frozen=True, eq=False)
class PatchPlan:
    """Checked edits in flat arrays; made by `patch_plan`, used by `patch_rows` any number of times.

    Attributes:
        tokens: tokens of the hidden states that it fits.
        features: their features.
        rows: how many rows they must have at least.
        dtype: their dtype, "float32", "float16" or "bfloat16"; None where all edits are zeros, which fit any.
        edits: [edits, 9] int64, read-only; the columns are those of `_patch_table`.
        indices: [n] int64, read-only.
        values: [m] words, on the device of the edits' values: uint16 or uint32 in NumPy, int16 or int32 in torch.
        on_devices: what a GPU backend keeps of the plan on each device.
    """

    tokens: int
    features: int
    rows: int
    dtype: str | None
    edits: Integers
    indices: Integers
    values: Any = field(repr=False)
    on_devices: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)

    @property
    def device(self) -> str:
        """Where the values are; those in host memory ("cpu") are copied to the device of the hidden states."""
        return "cpu" if isinstance(self.values, np.ndarray) else str(self.values.device)


@dataclass(frozen=True)
class Selection:
    """`count` indices: from `first` on where `chosen` is None."""

    first: int
    count: int
    chosen: Integers | None

    @property
    def low(self) -> int:
        return self.first if self.chosen is None else int(self.chosen.min(initial=0))

    @property
    def high(self) -> int:
        """One above the largest."""
        return self.first + self.count if self.chosen is None else int(self.chosen.max(initial=-1)) + 1

    def all_indices(self) -> Integers:
        return np.arange(self.first, self.first + self.count) if self.chosen is None else self.chosen


def selection(name: str, given: Any, size: int, where: str) -> Selection:
    """`given` (None, a slice or indices) of `size` tokens or features, checked.

    Raises:
        UsageError: negative or too large indices, one that occurs twice, or no indices at all.
    """
    cure = f"Select {name} from 0 to {size - 1}, each at most once; negative ones are not counted from the end"
    if given is None:
        return Selection(0, size, None)
    if isinstance(given, slice):
        bounds = (0 if given.start is None else given.start, size if given.stop is None else given.stop)
        start, stop, step = (_whole(name, value, where, cure) for value in (*bounds, given.step or 1))
        if not (0 <= start <= stop <= size and step >= 1):
            raise UsageError(f"{name} are {start}:{stop}:{step} of {size}", where=where, cure=cure)
        if step == 1:
            return Selection(start, stop - start, None)
        given = range(start, stop, step)
    chosen = _index_array(name, given, where, cure)
    if not chosen.size:
        return Selection(0, 0, None)
    outside = chosen[(chosen < 0) | (chosen >= size)]
    if outside.size:
        raise UsageError(f"{name} hold {outside[0]}, and there are {size}", where=where, cure=cure)
    if (np.diff(chosen) == 1).all():
        return Selection(int(chosen[0]), chosen.size, None)
    if np.unique(chosen).size != chosen.size:
        raise UsageError(f"{name} hold an index twice", where=where, cure=cure)
    return Selection(0, chosen.size, chosen)


def _whole(name: str, value: Any, where: str, cure: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise UsageError(f"{name} hold {value!r}", where=where, cure=cure)
    return int(value)


def _index_array(name: str, given: Any, where: str, cure: str) -> Integers:
    array = np.asarray(given) if isinstance(given, (np.ndarray, list, tuple, range)) else None
    if array is not None and array.shape == (0,):
        return np.empty(0, np.int64)
    if array is None or array.ndim != 1 or array.dtype.kind not in "iu" or array.dtype == np.uint64:
        shown = type(given).__name__ if array is None else f"{array.dtype} of shape {list(array.shape)}"
        raise UsageError(f"{name} are {shown}, not a slice or indices", where=where, cure=cure)
    return array.astype(np.int64)


class _Packer:
    """Collects the lines of the table, the indices, and each array of values once."""

    def __init__(self, tokens: int, features: int) -> None:
        self.sizes = (tokens, features)
        self.lines: list[tuple[int, ...]] = []
        self.selections: list[tuple[Selection, Selection]] = []
        self.indices: list[Integers] = []
        self.index_count = 0
        self.values = _words.Pool()

    def add(self, edit: PatchEdit, where: str) -> None:
        row = _whole("row", edit.row, where, "Give the row's number in the batch")
        if row < 0:
            raise UsageError(f"row is {row}", where=where, cure="Give the row's number in the batch, from 0")
        tokens = selection("tokens", edit.tokens, self.sizes[0], where)
        features = selection("features", edit.features, self.sizes[1], where)
        offset, stride = -1, 0
        if edit.value is not None:
            value = _words.Words.of(edit.value, f"{where}, value")
            fits = value.shape in ((features.count,), (tokens.count, features.count))
            if not fits:
                raise UsageError(
                    f"a value of shape {list(value.shape)} for {tokens.count} tokens and {features.count} features",
                    where=where,
                    cure=f"Pass [{features.count}], [{tokens.count}, {features.count}], or None for zero",
                )
            offset = self.values.place(value, where)
            stride = 0 if len(value.shape) == 1 else features.count
        self.selections.append((tokens, features))
        self.lines.append((row, *self._packed(tokens), *self._packed(features), offset, stride))

    def _packed(self, selected: Selection) -> tuple[int, int, int]:
        if selected.chosen is None:
            return selected.first, selected.count, -1
        index = self.index_count
        self.indices.append(selected.chosen)
        self.index_count += selected.count
        return 0, selected.count, index


def pack(edits: Sequence[PatchEdit], tokens: int, features: int) -> PatchPlan:
    """The plan of checked edits. Raises UsageError as `patch_plan`."""
    packer = _Packer(tokens, features)
    for number, edit in enumerate(edits):
        packer.add(edit, f"{OP}, edit {number}")
    lines = np.array(packer.lines, np.int64).reshape(len(packer.lines), table.COLUMNS)
    refuse_overlap(lines, packer.selections)
    indices = np.concatenate([np.empty(0, np.int64), *packer.indices])
    for array in (lines, indices):
        array.setflags(write=False)
    rows = int(lines[:, table.ROW].max(initial=-1)) + 1
    return PatchPlan(tokens, features, rows, packer.values.dtype, lines, indices, packer.values.joined())


def refuse_overlap(lines: Integers, selections: Sequence[tuple[Selection, Selection]]) -> None:
    """Raises UsageError where two edits write the same element: in one launch neither would be the later one."""
    filled = np.flatnonzero((lines[:, table.TOKEN_COUNT] > 0) & (lines[:, table.FEATURE_COUNT] > 0))
    boxes = np.array([_box(selections[number]) for number in filled.tolist()], np.int64).reshape(filled.size, 4)
    order = np.lexsort((boxes[:, 2], lines[filled, table.ROW]))
    filled, boxes = filled[order], boxes[order]
    row, (token_low, token_high, low, high) = lines[filled, table.ROW], boxes.T
    # Sorted by row and first feature: whatever overlaps an edit's features follows it without a gap.
    active, distance = np.arange(filled.size), 1
    while active.size:
        active = active[active + distance < filled.size]
        other = active + distance
        near = (row[active] == row[other]) & (low[other] < high[active])
        active, other = active[near], other[near]
        both = (token_low[active] < token_high[other]) & (token_low[other] < token_high[active])
        for one, two in zip(filled[active[both]].tolist(), filled[other[both]].tolist(), strict=True):
            if all(_meet(a, b) for a, b in zip(selections[one], selections[two], strict=True)):
                raise UsageError(
                    f"it overlaps edit {min(one, two)} of the same row",
                    where=f"{OP}, edit {max(one, two)}",
                    cure="Write each element once: leave the edit out that should lose",
                )
        distance += 1


def _box(selected: tuple[Selection, Selection]) -> tuple[int, int, int, int]:
    tokens, features = selected
    return tokens.low, tokens.high, features.low, features.high


def _meet(a: Selection, b: Selection) -> bool:
    if a.chosen is None and b.chosen is None:
        return a.first < b.first + b.count and b.first < a.first + a.count
    return bool(np.isin(a.all_indices(), b.all_indices()).any())
