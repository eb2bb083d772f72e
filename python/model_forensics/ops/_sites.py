"""Many sites in one call: their shapes, and the parts that results are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from model_forensics.errors import UsageError
from model_forensics.ops import _check

Block = tuple[int, int]

LARGEST_BLOCK: Final = 1 << 48


@dataclass(frozen=True)
class Sites:
    """Sites whose data lie one after the other.

    Attributes:
        shapes: [sites, 2] int64, tokens and channels of each.
        single: the caller passed one array [tokens, channels] instead of shapes.
    """

    shapes: npt.NDArray[np.int64]
    single: bool

    @property
    def tokens(self) -> int:
        return int(self.shapes[:, 0].sum())

    @property
    def channels(self) -> int:
        return int(self.shapes[:, 1].sum())

    def grid_of_blocks(self, block: Block) -> npt.NDArray[np.int64]:
        """[sites, 2] int64: rows and columns of blocks in each site."""
        return -(-self.shapes // np.array(block, dtype=np.int64))

    def sum_per_site(self, per_channel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """[sites] sums of what channels have, added in their order."""
        sums = np.zeros(len(self.shapes))
        widths = self.shapes[:, 1]
        filled = widths > 0  # reduceat knows no empty parts
        if filled.any():
            sums[filled] = np.add.reduceat(per_channel, (np.cumsum(widths) - widths)[filled])
        return sums


def read(
    op: str, x: Any, dtype: npt.DTypeLike, shapes: Any, check: Callable[..., Any] = _check.array
) -> tuple[npt.NDArray[Any], Sites]:
    """`x` flat, C-contiguous and aligned, and its sites; or UsageError. `check` does as `_check.array`."""
    if shapes is None:
        checked = check(op, "x", x, dtype, 2)
        return checked.reshape(-1), Sites(np.array([checked.shape], dtype=np.int64), single=True)
    flat = check(op, "x", x, dtype, 1)
    sizes = _read_shapes(op, shapes)
    total = sum(tokens * channels for tokens, channels in sizes.tolist())  # Python integers do not overflow
    if total != flat.shape[0]:
        raise UsageError(
            f"shapes hold {total} values, x has {flat.shape[0]}",
            where=op,
            cure="Pass the tokens and channels of each site, which lie one after the other in x",
        )
    return flat, Sites(sizes, single=False)


def block_of(op: str, block: Any) -> Block:
    """`block` as tokens and channels, both at least 1; or UsageError."""
    if not isinstance(block, (tuple, list)) or len(block) != 2:
        raise UsageError(f"block is {block!r}", where=op, cure="Pass block=(tokens, channels) for reduce='block'")
    tokens, channels = block
    return (
        _check.integer(op, "tokens of block", tokens, 1, LARGEST_BLOCK),
        _check.integer(op, "channels of block", channels, 1, LARGEST_BLOCK),
    )


def _read_shapes(op: str, shapes: Any) -> npt.NDArray[np.int64]:
    cure = "Pass int64 [sites, 2] or a list of (tokens, channels), none below 0"
    try:
        sizes = np.asarray(shapes)
    except ValueError as error:  # lists of different lengths
        raise UsageError("shapes is not a list of pairs", where=op, cure=cure) from error
    if sizes.size == 0:
        sizes = np.zeros((0, 2), dtype=np.int64)
    if sizes.ndim != 2 or sizes.shape[1] != 2:
        raise UsageError(f"shapes has shape {list(sizes.shape)}", where=op, cure=cure)
    if not np.issubdtype(sizes.dtype, np.signedinteger):
        raise UsageError(f"shapes is {sizes.dtype.name}", where=op, cure=cure)
    if (sizes < 0).any():
        raise UsageError(f"shapes holds {int(sizes.min())}", where=op, cure=cure)
    return np.ascontiguousarray(sizes, dtype=np.int64)
