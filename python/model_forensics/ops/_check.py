"""Checks of arguments. Refuse instead of casting: the caller knows what its numbers mean."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from model_forensics.errors import UsageError


def array(
    op: str, name: str, value: Any, dtype: npt.DTypeLike, dimensions: int, shape: tuple[int | None, ...] | None = None
) -> npt.NDArray[Any]:
    """`value`, C-contiguous and aligned (copied if it is not), or UsageError.

    Args:
        shape: expected lengths, None for any.
    """
    wanted = np.dtype(dtype)
    letters = ", ".join("?" if n is None else str(n) for n in (shape or (None,) * dimensions))
    accepted = f"Pass a NumPy array of {wanted.name} and shape [{letters}]"
    if not isinstance(value, np.ndarray):
        raise UsageError(f"{name} is a {type(value).__name__}, not a NumPy array", where=op, cure=accepted)
    if value.dtype != wanted:
        raise UsageError(f"{name} is {value.dtype.str} ({value.dtype.name})", where=op, cure=accepted)
    fits = value.ndim == dimensions and (
        shape is None or all(want in (None, have) for want, have in zip(shape, value.shape, strict=True))
    )
    if not fits:
        raise UsageError(f"{name} has shape {list(value.shape)}", where=op, cure=accepted)
    return np.require(value, requirements=["C", "A"])


def integer(op: str, name: str, value: Any, low: int, high: int) -> int:
    """`value` as an int from `low` to `high`, or UsageError."""
    is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_))
    if not is_integer or not low <= value <= high:
        raise UsageError(f"{name} is {value!r}", where=op, cure=f"Pass an integer from {low} to {high}")
    return int(value)


def choice(op: str, name: str, value: Any, accepted: tuple[str, ...]) -> str:
    if value not in accepted:
        raise UsageError(f"{name} is {value!r}", where=op, cure=f"Choose one of {', '.join(map(repr, accepted))}")
    return str(value)


def symbols_below(op: str, symbols: npt.NDArray[np.uint8], alphabet: int) -> None:
    """Every symbol is in the alphabet, or UsageError."""
    if alphabet > np.iinfo(np.uint8).max or not symbols.size:
        return
    largest = int(symbols.max())
    if largest >= alphabet:
        raise UsageError(
            f"symbol {largest} is outside the alphabet of {alphabet}",
            where=op,
            cure="Pass the alphabet that the symbols were made with (quantize makes levels + 1)",
        )


def row_offsets(op: str, offsets: Any, symbols: int) -> npt.NDArray[np.int64]:
    """[rows + 1] int64 from 0 to the number of symbols, not decreasing; None is one row."""
    if offsets is None:
        return np.array([0, symbols], dtype=np.int64)
    checked: npt.NDArray[np.int64] = array(op, "offsets", offsets, np.int64, 1)
    if not checked.size or checked[0] != 0 or checked[-1] != symbols or (np.diff(checked) < 0).any():
        raise UsageError(
            "offsets do not cut the symbols into rows",
            where=op,
            cure=f"Pass offsets that start at 0, do not decrease and end at {symbols}, the number of symbols",
        )
    return checked


def indices(op: str, name: str, numbers: Any, entries: int, count: int) -> npt.NDArray[np.int64]:
    """[entries] int64 from 0 to below `count`, or UsageError."""
    checked: npt.NDArray[np.int64] = array(op, name, numbers, np.int64, 1, (entries,))
    if entries and not (checked.min() >= 0 and checked.max() < count):
        raise UsageError(
            f"{name} holds {int(checked.min())} to {int(checked.max())}, there are {count}",
            where=op,
            cure=f"Pass numbers from 0 to {count - 1}",
        )
    return checked
