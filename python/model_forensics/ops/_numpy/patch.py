"""Words of hidden states replaced by other words."""

from __future__ import annotations

import numpy as np

from model_forensics.ops import _patch_table as table
from model_forensics.ops._arrays import Integers, Words


def patch_rows(hidden: Words, edits: Integers, indices: Integers, values: Words) -> None:
    """Write every edit into `hidden` [rows, tokens, features]; the arguments are those of `_patch_table`."""
    for edit in edits.tolist():
        tokens = _selected(edit[table.TOKEN_FIRST], edit[table.TOKEN_COUNT], edit[table.TOKEN_INDEX], indices)
        features = _selected(edit[table.FEATURE_FIRST], edit[table.FEATURE_COUNT], edit[table.FEATURE_INDEX], indices)
        place = np.ix_([edit[table.ROW]], tokens, features)
        if edit[table.VALUE] < 0:
            hidden[place] = 0
        else:
            lines = edit[table.VALUE] + edit[table.VALUE_STRIDE] * np.arange(tokens.size, dtype=np.int64)
            hidden[place] = values[lines[:, None] + np.arange(features.size, dtype=np.int64)]


def _selected(first: int, count: int, index: int, indices: Integers) -> Integers:
    return np.arange(first, first + count, dtype=np.int64) if index < 0 else indices[index : index + count]
