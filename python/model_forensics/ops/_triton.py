"""The operations as Triton kernels, on tensors in GPU memory."""

from __future__ import annotations

from contextlib import nullcontext
from math import gcd
from typing import Any, Final, NamedTuple

import numpy as np
import torch
import triton

from model_forensics.kernels import patch_rows as kernel
from model_forensics.ops import _patch_table as table
from model_forensics.ops._arrays import Integers
from model_forensics.ops._patch_plan import PatchPlan

TILE_BYTES: Final = 16 << 10
MAX_TILE_FEATURES: Final = 1024
INTERPRETED: Final = not isinstance(kernel.patch_rows_kernel, triton.runtime.JITFunction)


class OnDevice(NamedTuple):
    """A plan on one device."""

    tiles: torch.Tensor
    edits: torch.Tensor
    indices: torch.Tensor
    values: torch.Tensor
    tile: tuple[int, int]
    align: int


def missing(on_gpu: bool) -> str:
    """Why it cannot serve, or ""."""
    if INTERPRETED:
        return ""
    if not torch.cuda.is_available():
        return "torch sees no CUDA GPU"
    return "" if on_gpu else "the data is in host memory"


def patch_rows(hidden: Any, plan: PatchPlan) -> None:
    """Write the plan's edits into `hidden` [rows, tokens, features]: int16 or int32 words of a tensor.

    In the interpreter also unsigned words of NumPy.
    """
    if isinstance(hidden, np.ndarray):
        hidden = torch.from_numpy(hidden.view(f"<i{hidden.itemsize}"))
    there = plan.on_devices.get((hidden.device, hidden.dtype))
    if there is None:
        there = plan.on_devices.setdefault((hidden.device, hidden.dtype), on_device(plan, hidden))
    if not there.tiles.shape[0] or not hidden.numel():
        return
    strides = (hidden.stride(0), hidden.stride(1))
    align = gcd(there.align, hidden.data_ptr() // hidden.itemsize, *strides)
    with torch.cuda.device(hidden.device) if hidden.is_cuda else nullcontext():
        kernel.launch(hidden, *there[:4], strides, align, there.tile)
    if hidden.is_cuda:
        for tensor in there[:4]:  # so that their memory is not given away while another stream may read it
            tensor.record_stream(torch.cuda.current_stream(hidden.device))


def on_device(plan: PatchPlan, hidden: torch.Tensor) -> OnDevice:
    """The plan where `hidden` is, with its values in the words of `hidden`."""
    tile = tile_shape(plan.edits, hidden.itemsize)
    values = plan.values
    if isinstance(values, np.ndarray):
        values = torch.from_numpy(values.view(f"<i{values.itemsize}").copy())
    tables = (tile_table(plan.edits, tile), plan.edits.copy(), plan.indices.copy())
    tiles, edits, indices = (torch.from_numpy(array).to(hidden.device) for array in tables)
    align = alignment(plan.edits, min(16 // hidden.itemsize, tile[1]))
    return OnDevice(tiles, edits, indices, values.to(device=hidden.device, dtype=hidden.dtype), tile, align)


def alignment(edits: Integers, most: int) -> int:
    """The largest power of two up to `most`, one too, that divides every edit's first feature, count and value's place.

    Of all edits, those with listed features too: a hint in the kernel holds for a value wherever it is used.
    """
    sizes = edits[:, [table.FEATURE_FIRST, table.FEATURE_COUNT, table.VALUE_STRIDE]]
    values = edits[:, table.VALUE]
    return int(np.gcd.reduce([most, *sizes.ravel(), *values[values >= 0]]))


def tile_shape(edits: Integers, itemsize: int) -> tuple[int, int]:
    """Tokens and features of a tile: as many features as the widest edit has, up to a bound, and tokens to fill it."""
    widest = int(edits[:, table.FEATURE_COUNT].max(initial=1))
    features = min(triton.next_power_of_2(max(1, widest)), MAX_TILE_FEATURES)
    return TILE_BYTES // itemsize // features, features


def tile_table(edits: Integers, tile: tuple[int, int]) -> Integers:
    """[tiles, 3] int64: the edit and its first token and feature, for every tile of every edit."""
    down = -(-edits[:, table.TOKEN_COUNT] // tile[0])
    across = -(-edits[:, table.FEATURE_COUNT] // tile[1])
    count = down * across
    edit = np.repeat(np.arange(len(edits), dtype=np.int64), count)
    number = np.arange(edit.size, dtype=np.int64) - np.repeat(np.cumsum(count) - count, count)
    width = across[edit]
    return np.stack([edit, number // width * tile[0], number % width * tile[1]], axis=1)
