"""Words of hidden states replaced by other words."""

from __future__ import annotations

from model_forensics.ops import _patch_table as table
from model_forensics.ops._arrays import Integers, Words
from model_forensics.ops._numba.compiled import compiled

_ROW = table.ROW
_TOKEN_FIRST, _TOKEN_COUNT, _TOKEN_INDEX = table.TOKEN_FIRST, table.TOKEN_COUNT, table.TOKEN_INDEX
_FEATURE_FIRST, _FEATURE_COUNT, _FEATURE_INDEX = table.FEATURE_FIRST, table.FEATURE_COUNT, table.FEATURE_INDEX
_VALUE, _VALUE_STRIDE = table.VALUE, table.VALUE_STRIDE


def patch_rows(hidden: Words, edits: Integers, indices: Integers, values: Words) -> None:
    """Write every edit into `hidden` [rows, tokens, features]; the arguments are those of `_patch_table`."""
    _patch_rows(hidden, edits, indices, values)


@compiled
def _patch_rows(hidden: Words, edits: Integers, indices: Integers, values: Words) -> None:
    for number in range(edits.shape[0]):
        edit = edits[number]
        for t in range(edit[_TOKEN_COUNT]):
            token = edit[_TOKEN_FIRST] + t if edit[_TOKEN_INDEX] < 0 else indices[edit[_TOKEN_INDEX] + t]
            line = hidden[edit[_ROW], token]
            value = edit[_VALUE] + t * edit[_VALUE_STRIDE]
            _write_line(line, edit, indices, values, value)


@compiled
def _write_line(line: Words, edit: Integers, indices: Integers, values: Words, value: int) -> None:
    first, count, index = edit[_FEATURE_FIRST], edit[_FEATURE_COUNT], edit[_FEATURE_INDEX]
    if index < 0:
        adjacent = line[first : first + count]
        if edit[_VALUE] < 0:
            adjacent[:] = 0
        else:
            adjacent[:] = values[value : value + count]
    else:
        for f in range(count):
            line[indices[index + f]] = 0 if edit[_VALUE] < 0 else values[value + f]
