"""Which sites are read and measured together, so that a recording of any size is judged in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from model_forensics.cf.planes import Layout

if TYPE_CHECKING:
    from model_forensics.types import Recording

BYTES_AN_ENTRY: Final = 160
"""Memory that reading and measuring one recorded value takes at its highest (ci/limits/streaming.py measures it)."""
BYTES_A_RESULT: Final = 6144
"""Memory that what is measured at one site of one sample takes until all is judged (ci/limits/kept.py measures it)."""
SITES_AT_ONCE: Final = 16
"""Sites of a block at most: of compressed bundles, the sections that consecutive samples share stay decoded."""


@dataclass(frozen=True)
class Block:
    """Neighbouring sites of a layout; numbers inside the block begin with 0."""

    sites: slice
    layout: Layout

    @staticmethod
    def of(layout: Layout, start: int, stop: int) -> Block:
        return Block(slice(start, stop), Layout(layout.sites[start:stop]))


def blocks_of(recording: Recording, layout: Layout, memory: int | None) -> Sequence[Block]:
    """All sites in blocks of which any one sample's values fit into `memory` bytes; one block without a limit.

    Recordings in memory are one block: they are there in any case. A single site is never divided, so the largest site
    of the longest sample bounds what can be kept to.
    """
    largest = getattr(recording, "largest_entries", None)
    if memory is None or largest is None:
        return [Block(slice(0, len(layout)), layout)]
    limit = memory // BYTES_AN_ENTRY
    starts, filled = [0], 0
    for number, info in enumerate(layout.sites):
        entries = largest(info.name)
        if number - starts[-1] == SITES_AT_ONCE or (filled and filled + entries > limit):
            starts.append(number)
            filled = 0
        filled += entries
    return [Block.of(layout, start, stop) for start, stop in zip(starts, [*starts[1:], len(layout)], strict=True)]


def kept_memory(recording: Recording) -> int:
    """Bytes that `analyze` keeps of a recording until the end, whatever the size of its blocks."""
    return BYTES_A_RESULT * len(recording.samples) * len(recording.sites)


def least_memory(recording: Recording) -> int:
    """Bytes that the largest site of the longest sample takes: what `analyze` needs at least for values."""
    largest = getattr(recording, "largest_entries", None)
    if largest is None:
        return 0
    return BYTES_AN_ENTRY * max((largest(site) for site in recording.sites), default=0)
