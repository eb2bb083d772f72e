"""Edits of hidden states: every backend against a plain loop over elements, bit for bit."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from patch_cases import BACKENDS, TORCH, WORD, check, expected, interpreted, run, usable, words_of

from model_forensics import ops
from model_forensics.errors import BackendUnavailable, UsageError
from model_forensics.ops import PatchEdit, patch_plan, patch_rows


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return usable(str(request.param))


@pytest.mark.parametrize("dtype", sorted(WORD))
@pytest.mark.parametrize("features", [1, 7, 64, 127, 1024, 1025, 2051])
def test_sizes_around_tiles(backend: str, dtype: str, features: int) -> None:
    tokens = 5 if features > 1000 else 33
    donor = words_of((tokens, features), dtype, 1)
    edits = [
        PatchEdit(0, value=donor),
        PatchEdit(1, tokens=slice(1, 4)),
        PatchEdit(2, features=slice(features // 3, features), value=donor[:, features // 3 :]),
        PatchEdit(3, tokens=[4, 0], value=donor[0]),
        PatchEdit(3, tokens=[2], features=[features - 1, *range(0, features - 1, 3)]),
    ]
    check(words_of((4, tokens, features), dtype, 2), edits, backend)


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0, 4), (2, 3, 0), (1, 1, 1)])
def test_sizes_of_nothing_and_one(backend: str, shape: tuple[int, int, int]) -> None:
    edits = [PatchEdit(0)] if shape[0] else []
    check(words_of(shape, "float32", 3), edits, backend)


def test_a_plan_without_edits_changes_nothing(backend: str) -> None:
    check(words_of((2, 3, 4), "float16", 4), [], backend)


STRIDED = [np.s_[::2, 3:13, 4:20], np.s_[1:4, ::2, :16], np.s_[:3, 5:6, :16], np.s_[2:3, :, 24:]]


@pytest.mark.parametrize("take", STRIDED)
@pytest.mark.parametrize("swapped", [False, True])
def test_rows_and_tokens_may_be_strided(backend: str, take: tuple[slice, ...], swapped: bool) -> None:
    whole = words_of((6, 20, 40), "float32", 5)
    if swapped:
        whole = np.swapaxes(np.swapaxes(whole, 0, 1).copy(), 0, 1)
    hidden = whole[take]
    rows, tokens, _ = hidden.shape
    donor = words_of((tokens, 9), "float32", 6)
    edits = [PatchEdit(rows - 1, features=slice(3, 12), value=donor), PatchEdit(0, features=[0, 15])]
    wanted = whole.copy()
    wanted[take] = expected(hidden, edits).view(np.float32)
    plan = patch_plan(edits, tokens=tokens, features=16)
    if backend.endswith("GPU"):
        there = torch.from_numpy(whole).cuda()
        patch_rows(there[take], plan)
        whole = there.cpu().numpy()
    else:
        patch_rows(hidden, plan, backend=backend)
    np.testing.assert_array_equal(whole.view(np.uint32), wanted.view(np.uint32))


@pytest.mark.parametrize("dtype", sorted(TORCH))
def test_cpu_tensors_are_written_in_their_own_memory(backend: str, dtype: str) -> None:
    if backend.endswith("GPU"):
        pytest.skip("data in host memory")
    bits = words_of((3, 5, 16), dtype, 8)
    donor = words_of((5, 16), dtype, 9)
    signed = f"i{bits.itemsize}"
    hidden = torch.from_numpy(bits.view(signed)).view(TORCH[dtype])
    value = torch.from_numpy(donor.view(signed)).view(TORCH[dtype])
    wanted = expected(bits, [PatchEdit(1, value=donor), PatchEdit(2, features=slice(4, 8))])
    edits = [PatchEdit(1, value=value), PatchEdit(2, features=slice(4, 8))]
    patch_rows(hidden, patch_plan(edits, tokens=5, features=16), backend=backend)
    np.testing.assert_array_equal(bits.view(wanted.dtype), wanted)


def test_offsets_beyond_32_bits(backend: str) -> None:
    if backend.endswith("GPU"):
        pytest.skip("takes 4 GiB")
    rows, tokens, features = 2, (1 << 14) + 1, (1 << 16) + 8  # the last elements are beyond 2^31
    try:
        hidden = np.zeros((rows, tokens, features), np.float16)  # only what is touched takes memory
    except MemoryError:
        pytest.skip("4 GiB of addresses are not to be had")
    donor = words_of((1, features), "float16", 10)
    edits = [
        PatchEdit(1, tokens=[tokens - 1], value=donor),
        PatchEdit(1, tokens=slice(tokens - 2, tokens - 1), features=[features - 1], value=donor[:, :1]),
    ]
    patch_rows(hidden, patch_plan(edits, tokens=tokens, features=features), backend=backend)
    np.testing.assert_array_equal(hidden[1, -1].view(np.uint16), donor[0].view(np.uint16))
    assert hidden[1, -2, -1:].view(np.uint16) == donor[0, :1].view(np.uint16)
    assert not hidden[0, :8].view(np.uint16).any()
    assert not hidden[1, :8].view(np.uint16).any()


def test_zeros_fit_hidden_states_of_every_dtype(backend: str) -> None:
    plan = patch_plan([PatchEdit(0)], tokens=2, features=3)
    assert plan.dtype is None
    for dtype, word in WORD.items():
        hidden = words_of((1, 2, 3), dtype, 11)
        run(hidden, plan, backend)
        assert not hidden.view(word).any()


def test_listed_features_beside_wide_rows(backend: str) -> None:
    hidden = words_of((2, 9, 32), "float32", 13)  # what suits the one edit, 16-byte accesses, does not suit the other
    donor, listed = words_of((9, 16), "float32", 14), words_of((9, 5), "float32", 15)
    edits = [PatchEdit(0, features=slice(16, 32), value=donor), PatchEdit(1, features=[3, 9, 0, 31, 17], value=listed)]
    check(hidden, edits, backend)


def test_hints_to_the_compiler_hold_for_every_edit() -> None:
    pytest.importorskip("triton")
    from model_forensics.ops import _triton

    wide = PatchEdit(0, features=slice(16, 32), value=np.ones((9, 16), np.float32))
    assert _triton.alignment(patch_plan([wide], tokens=9, features=32).edits, 4) == 4
    listed = PatchEdit(1, features=[3, 9, 0, 31, 17], value=np.ones((9, 5), np.float32))
    assert _triton.alignment(patch_plan([wide, listed], tokens=9, features=32).edits, 4) == 1


def test_an_array_that_edits_share_is_held_once() -> None:
    donors = np.ones((8, 16, 32), np.float32)
    edits = [PatchEdit(row, value=donors[row % 2]) for row in range(64)]
    plan = patch_plan(edits, tokens=16, features=32)
    assert plan.values.size == 2 * 16 * 32


def test_a_plan_keeps_its_values() -> None:
    value = np.ones(3, np.float32)
    plan = patch_plan([PatchEdit(0, value=value)], tokens=2, features=3)
    value[:] = 7
    hidden = np.zeros((1, 2, 3), np.float32)
    patch_rows(hidden, plan)
    assert (hidden == 1).all()


REFUSED_EDITS = [
    (PatchEdit(-1), "row is -1"),
    (PatchEdit(1.0), "row hold 1.0"),  # type: ignore[arg-type]
    (PatchEdit(0, tokens=[-1]), "tokens hold -1"),
    (PatchEdit(0, tokens=[4]), "tokens hold 4, and there are 4"),
    (PatchEdit(0, tokens=slice(-2, None)), "tokens are -2:4:1 of 4"),
    (PatchEdit(0, tokens=slice(0, 5)), "tokens are 0:5:1 of 4"),
    (PatchEdit(0, tokens=slice(3, 0, -1)), "tokens are 3:0:-1"),
    (PatchEdit(0, tokens=[1, 0, 1]), "tokens hold an index twice"),
    (PatchEdit(0, tokens=np.ones(4, bool)), "bool"),
    (PatchEdit(0, tokens=[0.5]), "float64"),
    (PatchEdit(0, features=[6]), "features hold 6"),
    (PatchEdit(0, features=np.zeros((1, 1), int)), "shape"),
    (PatchEdit(0, features=3), "features are int"),  # type: ignore[arg-type]
    (PatchEdit(0, value=np.zeros(5, np.float32)), r"shape \[5\] for 4 tokens and 6 features"),
    (PatchEdit(0, value=np.zeros((3, 6), np.float32)), r"shape \[3, 6\]"),
    (PatchEdit(0, value=np.zeros(6, np.float64)), "float64"),
    (PatchEdit(0, value=np.zeros(6, ">f4")), ">f4"),
    (PatchEdit(0, value=[0.0] * 6), "is a list"),
    (PatchEdit(0, value=torch.zeros(6, dtype=torch.float64)), "tensor of float64"),
    (PatchEdit(0, value=np.zeros(6, np.float16)), "float16 on 'cpu', the first is float32"),
]


@pytest.mark.parametrize(("edit", "what"), REFUSED_EDITS)
def test_a_wrong_edit_is_refused_with_its_number(edit: PatchEdit, what: str) -> None:
    fine = PatchEdit(1, value=np.zeros(6, np.float32))
    with pytest.raises(UsageError, match=f"edit 1.*{what}"):
        patch_plan([fine, edit], tokens=4, features=6)


OVERLAPS = [
    (PatchEdit(0), PatchEdit(0)),
    (PatchEdit(0, tokens=[1]), PatchEdit(0, features=[2])),
    (PatchEdit(0, tokens=slice(0, 3)), PatchEdit(0, tokens=slice(2, 4))),
    (PatchEdit(0, tokens=[0, 3], features=[1, 5]), PatchEdit(0, tokens=[3], features=slice(5, 6))),
    (PatchEdit(0, features=slice(0, 6)), PatchEdit(0, tokens=[2], features=slice(3, 4))),
]


@pytest.mark.parametrize("pair", OVERLAPS)
def test_edits_that_overlap_are_refused(pair: tuple[PatchEdit, PatchEdit]) -> None:
    between = PatchEdit(1)
    with pytest.raises(UsageError, match="edit 2: it overlaps edit 0"):
        patch_plan([pair[0], between, pair[1]], tokens=4, features=6)


def test_edits_that_interleave_do_not_overlap() -> None:
    edits = [PatchEdit(0, tokens=[0, 2]), PatchEdit(0, tokens=[1, 3]), PatchEdit(1), PatchEdit(0, tokens=[])]
    assert patch_plan(edits, tokens=4, features=6).rows == 2


def read_only() -> np.ndarray:
    hidden = np.zeros((2, 4, 6), np.float32)
    hidden.setflags(write=False)
    return hidden


REFUSED_HIDDEN = [
    (lambda: np.zeros((1, 4, 6), np.float32), "edit 1 is of row 1, and hidden has 1 rows"),
    (lambda: np.zeros((2, 5, 6), np.float32), "5 tokens and 6 features, the plan 4 and 6"),
    (lambda: np.zeros((2, 4, 6), np.float16), "hidden is float16, and the plan's values are float32"),
    (lambda: np.zeros((2, 4, 6), np.float64), "float64"),
    (lambda: np.zeros((2, 24), np.float32), "shape"),
    (read_only, "read-only"),
    (lambda: np.zeros((2, 4, 12), np.float32)[..., ::2], "strides"),
    (lambda: np.zeros((2, 4, 6), np.float32)[::-1], "strides"),
    (lambda: np.lib.stride_tricks.as_strided(np.zeros(48, np.float32), (2, 4, 6), (96, 4, 4)), "strides"),
    (lambda: np.zeros(2 * 4 * 24 + 1, np.uint8)[1:].view(np.float32).reshape(2, 4, 6), "not aligned"),
    (lambda: torch.zeros(2, 4, 6).expand(2, 4, 6)[:1].expand(2, 4, 6), "strides"),
    (lambda: torch.zeros(2, 4, 6, requires_grad=True), "requires gradients"),
    (lambda: torch.zeros(2, 4, 6, device="meta"), "on 'meta'"),
    (lambda: torch.zeros(2, 4, 6).to_sparse(), "sparse"),
    (lambda: [[[0.0]]], "is a list"),
]


@pytest.mark.parametrize(("make", "what"), REFUSED_HIDDEN)
def test_hidden_states_that_do_not_fit_are_refused(make: Any, what: str) -> None:
    plan = patch_plan([PatchEdit(0), PatchEdit(1, value=np.ones(6, np.float32))], tokens=4, features=6)
    with pytest.raises(UsageError, match=what):
        patch_rows(make(), plan)


def test_what_autograd_saved_before_an_edit_is_stale() -> None:
    weight = torch.ones(6, requires_grad=True)
    hidden = torch.ones(1, 4, 6)
    loss = (hidden * weight).sum()
    patch_rows(hidden, patch_plan([PatchEdit(0)], tokens=4, features=6))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()  # type: ignore[no-untyped-call]


def test_inference_tensors_are_patched() -> None:
    with torch.inference_mode():
        hidden = torch.ones(1, 4, 6)
    patch_rows(hidden, patch_plan([PatchEdit(0, features=slice(0, 2))], tokens=4, features=6))
    assert hidden.sum() == 16


def test_data_in_host_memory_is_not_sent_to_a_gpu_by_name() -> None:
    plan = patch_plan([PatchEdit(0)], tokens=4, features=6)
    if interpreted():
        pytest.skip("the interpreter works in host memory")
    with pytest.raises(BackendUnavailable, match=r"host memory|no CUDA GPU|not installed"):
        patch_rows(np.zeros((1, 4, 6), np.float32), plan, backend="triton")
    with pytest.raises(BackendUnavailable, match="not built"):
        patch_rows(np.zeros((1, 4, 6), np.float32), plan, backend="cuda")


def test_without_triton_the_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    for name in ("model_forensics.ops._triton", "model_forensics.kernels.patch_rows"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    ops._dispatch._load.cache_clear()
    try:
        assert ops.backends()["patch_rows"]["triton"] == "triton is not installed"
    finally:
        ops._dispatch._load.cache_clear()


def test_the_core_checks_a_table_before_it_writes() -> None:
    core: Any = pytest.importorskip("model_forensics._core", reason="the compiled core is not built")
    hidden = np.full((2, 3, 4), 7, np.uint16)
    indices, values = np.array([0, 9], np.int64), np.zeros(8, np.uint16)
    fine = [0, 0, 3, -1, 0, 4, -1, -1, 0]
    for column, wrong in [
        (0, 2),
        (0, -1),
        (1, 1),
        (2, 4),
        (2, -1),
        (3, 1),
        (5, 5),
        (6, 1),
        (7, 5),
        (7, -2),
        (8, 1 << 62),
    ]:
        bad = list(fine)
        bad[7] = 0
        bad[column] = wrong
        table = np.array([fine, bad], np.int64)
        with pytest.raises(ValueError, match="outside"):
            core.patch_rows(hidden, table, indices, values)
    with pytest.raises(ValueError, match="9 columns"):
        core.patch_rows(hidden, np.zeros((1, 8), np.int64), indices, values)
    with pytest.raises(TypeError, match="values must be uint16"):
        core.patch_rows(hidden, np.array([fine]), indices, values.astype(np.uint32))
    assert (hidden == 7).all()
