"""Random edits of hidden states, written and refused as a plain loop over elements says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from patch_cases import BACKENDS, WORD, check, usable, words_of

from model_forensics.errors import UsageError
from model_forensics.ops import PatchEdit, patch_plan


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return usable(str(request.param))


def selections(size: int) -> st.SearchStrategy[Any]:
    bounds = st.tuples(st.integers(0, size), st.integers(0, size)).map(sorted)
    slices = st.tuples(bounds, st.sampled_from([None, 1, 2])).map(lambda s: slice(*s[0], s[1]))
    indices = st.lists(st.integers(0, size - 1), unique=True, max_size=size)
    return st.none() | slices | indices | indices.map(lambda chosen: np.array(chosen, np.int32))


@st.composite
def cases(draw: st.DrawFn) -> tuple[np.ndarray, list[PatchEdit]]:
    rows, tokens, features = (draw(st.integers(1, n)) for n in (4, 9, 19))
    dtype = draw(st.sampled_from(sorted(WORD)))
    edits = []
    free = np.ones((rows, tokens, features), bool)
    for number in range(draw(st.integers(0, 6))):
        row = draw(st.integers(0, rows - 1))
        chosen = draw(selections(tokens)), draw(selections(features))
        t, f = (np.arange(n)[slice(None) if c is None else c] for n, c in zip((tokens, features), chosen, strict=True))
        if not free[np.ix_([row], t, f)].all():
            continue
        free[np.ix_([row], t, f)] = False
        shape = draw(st.sampled_from([None, (len(f),), (len(t), len(f))]))
        edits.append(PatchEdit(row, *chosen, None if shape is None else words_of(shape, dtype, number)))
    return words_of((rows, tokens, features), dtype, 99), edits


@given(case=cases())
def test_every_element_and_no_other_is_written(backend: str, case: tuple[np.ndarray, list[PatchEdit]]) -> None:
    hidden, edits = case
    check(hidden, edits, backend)


@given(case=cases(), data=st.data())
def test_overlap_is_found_wherever_it_is(case: tuple[np.ndarray, list[PatchEdit]], data: st.DataObject) -> None:
    hidden, edits = case
    rows, tokens, features = hidden.shape
    for _ in range(3):
        chosen = data.draw(selections(tokens)), data.draw(selections(features))
        edits.append(PatchEdit(data.draw(st.integers(0, rows - 1)), *chosen))
    written = np.zeros(hidden.shape, int)
    for edit in edits:
        t = np.arange(tokens)[slice(None) if edit.tokens is None else edit.tokens]
        f = np.arange(features)[slice(None) if edit.features is None else edit.features]
        written[np.ix_([edit.row], t, f)] += 1
    if (written > 1).any():
        with pytest.raises(UsageError, match="overlaps"):
            patch_plan(edits, tokens=tokens, features=features)
    else:
        patch_plan(edits, tokens=tokens, features=features)
