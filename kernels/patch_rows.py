"""Words of hidden states replaced by other words: every edit of every row in one launch.

A program writes one tile of one edit: TOKENS × FEATURES of the elements that it selects. Moving data is all there is to
do, so what counts is that loads and stores are wide: ALIGN says to how many words the first element, the number of
elements and every stride of the adjacent selections are aligned, and lets the compiler use 16-byte accesses.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl


@triton.jit
def patch_rows_kernel(  # type: ignore[no-untyped-def]
    hidden,  # words, features adjacent
    tiles,  # [programs, 3] int64: edit, first token and first feature of the tile, among those that the edit selects
    edits,  # [edits, 9] int64: row; tokens first, count, index; features first, count, index; value, value stride
    indices,  # [n] int64
    values,  # words
    row_stride,
    token_stride,
    ALIGN: tl.constexpr,
    TOKENS: tl.constexpr,
    FEATURES: tl.constexpr,
):
    tile = tiles + tl.program_id(0).to(tl.int64) * 3
    edit = edits + tl.load(tile) * 9
    row = tl.load(edit)
    token_count = tl.load(edit + 2)
    token_index = tl.load(edit + 3)
    feature_count = tl.load(edit + 5)
    feature_index = tl.load(edit + 6)
    value = tl.load(edit + 7)

    t = tl.load(tile + 1) + tl.arange(0, TOKENS)  # int64, and so is every offset below
    t_there = t < token_count
    # What is not to be read is masked by its count: listed tokens of an adjacent selection, and the values of zeros.
    listed = tl.load(indices + token_index + t, mask=t < tl.where(token_index < 0, 0, token_count), other=0)
    token = tl.where(token_index < 0, tl.load(edit + 1) + t, listed)
    to = hidden + tl.multiple_of(row * row_stride, ALIGN) + tl.multiple_of(token * token_stride, ALIGN)[:, None]
    given = value + t * tl.load(edit + 8)
    t_given = t < tl.where(value < 0, 0, token_count)

    f = tl.multiple_of(tl.load(tile + 2), FEATURES) + tl.arange(0, FEATURES)
    if feature_index < 0:
        f_there = f < tl.multiple_of(feature_count, ALIGN)
        source = values + tl.multiple_of(given, ALIGN)[:, None] + f[None, :]
        words = tl.load(source, mask=t_given[:, None] & f_there[None, :], other=0)
        place = tl.multiple_of(tl.load(edit + 4), ALIGN) + f
        tl.store(to + place[None, :], words, mask=t_there[:, None] & f_there[None, :])
    else:
        f_there = f < feature_count
        words = tl.load(values + given[:, None] + f[None, :], mask=t_given[:, None] & f_there[None, :], other=0)
        place = tl.load(indices + feature_index + f, mask=f_there, other=0)
        tl.store(to + place[None, :], words, mask=t_there[:, None] & f_there[None, :])


def launch(
    hidden: Any,
    tiles: Any,
    edits: Any,
    indices: Any,
    values: Any,
    strides: tuple[int, int],
    align: int,
    tile: tuple[int, int],
) -> None:
    """One program a tile, on the current stream of the current device.

    Args:
        hidden: tensor of int16 or int32 words, [rows, tokens, features].
        tiles, edits, indices, values: tensors on the same device, as the kernel's arguments.
        strides: of rows and tokens, in words.
        align: power of two that divides the address of hidden (in words), both strides, and of every edit its first
            feature, its number of features, its value and its value stride. Of edits with listed features too: the
            compiler takes a hint for a property of the value, also in the branch where it was not given.
        tile: tokens and features of a tile, powers of two; `align` divides the latter.
    """
    patch_rows_kernel[(tiles.shape[0],)](
        hidden,
        tiles,
        edits,
        indices,
        values,
        *strides,
        ALIGN=align,
        TOKENS=tile[0],
        FEATURES=tile[1],
        enable_fp_fusion=False,  # there is no arithmetic; unset, Triton warns that its default will change
    )
