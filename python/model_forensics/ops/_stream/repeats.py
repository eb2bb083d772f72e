"""Runs of elements that stood in the same chunk before; they leave it before the planes are made."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from model_forensics.ops._arrays import Symbols
from model_forensics.ops._stream.reader import BrokenStream, Reader, varint

SHORTEST: Final = 64
_BASE: Final = 0x9E3779B97F4A7C15
_SLOT_BITS: Final = 16
_MOST: Final = 1 << 24  # elements of a chunk


class Repeat(NamedTuple):
    """In elements: `gap` that are no part of a repeat come first, then `length` that stand `distance` before too."""

    gap: int
    length: int
    distance: int


def find(data: Symbols, width: int) -> list[Repeat]:
    """Greedy, from the front: docs/stream-format.md. The last rest shorter than an element is not looked at."""
    elements = data.view(f"<u{width}")
    if elements.size < 2 * SHORTEST:
        return []
    hashes = _hashes(elements)
    slots = (hashes >> np.uint64(64 - _SLOT_BITS)).tolist()
    # Windows whose hash no block has need no look; the rest is done in order.
    candidates = np.flatnonzero(np.isin(hashes, hashes[::SHORTEST])).tolist()
    blocks: dict[int, int] = {}
    repeats: list[Repeat] = []
    known = end = 0
    for at in candidates:
        if at < end:
            continue
        while known + SHORTEST <= at:
            blocks[slots[known]] = known
            known += SHORTEST
        block = blocks.get(slots[at])
        if block is None or (elements[block : block + SHORTEST] != elements[at : at + SHORTEST]).any():
            continue
        length = _agreement(elements, block, at)
        repeats.append(Repeat(at - end, length, at - block))
        end = at + length
    return repeats


def _hashes(elements: npt.NDArray[np.unsignedinteger]) -> npt.NDArray[np.uint64]:
    """Of every window of SHORTEST elements, a polynomial modulo 2^64."""
    total = np.zeros(elements.size - SHORTEST + 1, dtype=np.uint64)
    for k in range(SHORTEST):
        total = total * np.uint64(_BASE) + elements[k : k + total.size].astype(np.uint64)
    return total


def _agreement(elements: npt.NDArray[np.unsignedinteger], first: int, second: int) -> int:
    different = np.flatnonzero(elements[second:] != elements[first : first + elements.size - second])
    return int(different[0]) if different.size else elements.size - second


def write(repeats: list[Repeat]) -> bytes:
    return varint(len(repeats)) + b"".join(varint(number) for repeat in repeats for number in repeat)


def read(reader: Reader, elements: int) -> list[Repeat]:
    count = reader.varint(_MOST)
    if count > reader.left.size // 3:
        raise BrokenStream("a section ends early")
    repeats = []
    at = 0
    for _ in range(count):
        gap = reader.varint(elements - at)
        at += gap
        length = reader.varint(elements - at)
        distance = reader.varint(at)
        if distance == 0:
            raise BrokenStream("a repeat repeats itself")
        at += length
        repeats.append(Repeat(gap, length, distance))
    return repeats


def without(data: Symbols, width: int, repeats: list[Repeat]) -> Symbols:
    """The bytes of what is left."""
    ends = np.cumsum([0, *(repeat.gap + repeat.length for repeat in repeats)]) * width
    kept = [data[start : start + repeat.gap * width] for start, repeat in zip(ends[:-1], repeats, strict=True)]
    return np.concatenate([*kept, data[ends[-1] :]])


def restore(left: Symbols, width: int, repeats: list[Repeat], out: Symbols) -> None:
    """Fill `out`, the inverse of `without`."""
    taken = at = 0
    for gap, length, distance in repeats:
        out[at : at + gap * width] = left[taken : taken + gap * width]
        taken += gap * width
        at += gap * width
        end, back = at + length * width, distance * width
        while at < end:  # a repeat may reach into itself
            step = min(back, end - at)
            out[at : at + step] = out[at - back : at - back + step]
            at += step
    out[at:] = left[taken:]
