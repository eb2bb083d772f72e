"""The Triton kernels compiled for GPUs that are not here: does the compiler make of them what they are written for?"""

from __future__ import annotations

import re
from typing import Any

import pytest

triton: Any = pytest.importorskip(
    "triton", reason="Triton is not installed (Linux on x86-64 has it with the test extra)"
)


def ptx_of_patch_rows(item: int, align: int, arch: int) -> str:
    from model_forensics.kernels.patch_rows import patch_rows_kernel
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if not isinstance(patch_rows_kernel, triton.runtime.JITFunction):
        pytest.skip("Triton interprets here")
    word = f"*i{8 * item}"
    types = {"hidden": word, "tiles": "*i64", "edits": "*i64", "indices": "*i64", "values": word}
    signature = {**types, "row_stride": "i64", "token_stride": "i32"}
    constants = {"ALIGN": align, "TOKENS": 16384 // item // 1024, "FEATURES": 1024}
    source = ASTSource(
        fn=patch_rows_kernel,
        signature={**signature, **dict.fromkeys(constants, "constexpr")},
        constexprs=constants,
        attrs={(place,): [["tt.divisibility", 16]] for place in (0, 4)},
    )
    options = {"enable_fp_fusion": False}
    return str(triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options).asm["ptx"])


@pytest.mark.parametrize("item", [2, 4])
def test_aligned_rows_move_in_accesses_of_16_bytes(item: int) -> None:
    ptx = ptx_of_patch_rows(item, align=16 // item, arch=90)
    assert re.search(r"ld\.global\S*\.v4\.b32", ptx)
    assert re.search(r"st\.global\S*\.v4\.b32", ptx)


def test_nothing_is_assumed_of_rows_that_are_not_aligned() -> None:
    ptx = ptx_of_patch_rows(2, align=1, arch=90)
    assert not re.search(r"(st|ld)\.global\S*\.v\d", ptx)
    assert not re.search(r"st\.global\S*\.b(32|64)", ptx)
