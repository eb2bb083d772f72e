"""What the tests of `patch_rows` share: its backends, random bits, and a plain loop over elements as the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model_forensics import ops
from model_forensics.ops import PatchEdit, patch_plan, patch_rows
from model_forensics.ops._dispatch import AVAILABLE

WORD = {"float32": np.uint32, "float16": np.uint16, "bfloat16": np.uint16}
TORCH = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
BACKENDS = ["numpy", "numba", "cpp", "triton", pytest.param("triton on a GPU", marks=pytest.mark.gpu)]
"""As for every operation, and Triton: in its interpreter (tests/kernels sees to that), and on a GPU."""


def usable(backend: str) -> str:
    """The backend, or a skip with the reason why it is not there."""
    name = backend.split(" ", maxsplit=1)[0]
    state = ops.backends()["patch_rows"][name]
    if state != AVAILABLE:
        pytest.skip(f"backend '{name}': {state}")
    if backend == "triton" and not interpreted():
        pytest.skip("Triton compiles here; the interpreter is tested by tests/kernels")
    return backend


def interpreted() -> bool:
    """Whether Triton's kernels run in its interpreter, on data in host memory."""
    if ops.backends()["patch_rows"]["triton"] != AVAILABLE:
        return False
    from model_forensics.ops import _triton

    return _triton.INTERPRETED


def run(hidden: np.ndarray, plan: ops.PatchPlan, backend: str) -> None:
    """`patch_rows` where the backend works: a GPU gets the data, and gives it back."""
    if not backend.endswith("GPU"):
        patch_rows(hidden, plan, backend=backend)
        return
    host = torch.from_numpy(hidden.view(f"i{hidden.itemsize}"))
    there = host.cuda()
    patch_rows(there.view(TORCH["bfloat16" if hidden.dtype == np.uint16 else hidden.dtype.name]), plan)
    host.copy_(there)


def words_of(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """Random bits: NaNs of every payload, denormals and both zeros among them; a view in the dtype."""
    bits = np.random.default_rng(seed).integers(0, np.iinfo(WORD[dtype]).max, shape, WORD[dtype], endpoint=True)
    return bits if dtype == "bfloat16" else bits.view(dtype)


def expected(hidden: np.ndarray, edits: list[PatchEdit]) -> np.ndarray:
    """One element at a time."""
    bits = hidden.copy().view(f"u{hidden.itemsize}")
    for edit in edits:
        tokens = np.arange(bits.shape[1])[slice(None) if edit.tokens is None else edit.tokens]
        features = np.arange(bits.shape[2])[slice(None) if edit.features is None else edit.features]
        value = None if edit.value is None else edit.value.view(bits.dtype)
        for t, token in enumerate(tokens):
            for f, feature in enumerate(features):
                new = 0 if value is None else value[f] if value.ndim == 1 else value[t, f]
                bits[edit.row, token, feature] = new
    return bits


def check(hidden: np.ndarray, edits: list[PatchEdit], backend: str) -> None:
    wanted = expected(hidden, edits)
    plan = patch_plan(edits, tokens=hidden.shape[1], features=hidden.shape[2])
    run(hidden, plan, backend)
    np.testing.assert_array_equal(hidden.view(wanted.dtype), wanted)
