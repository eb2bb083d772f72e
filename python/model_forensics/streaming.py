"""Whether a recording is read in blocks, and how large they may be."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from model_forensics import cf

if TYPE_CHECKING:
    from model_forensics.types import Recording

RESERVE: Final = 48 << 20
"""Bytes kept free for results, decoded sections of compressed bundles and what the interpreter holds back."""
LEAST: Final = 16 << 20
"""Bytes that values get in any case."""


@dataclass(frozen=True)
class Streaming:
    """When forensics read a recording block by block; the results are the same.

    Attributes:
        enabled: always; otherwise only recordings whose content exceeds `max_memory`.
        max_memory: bytes of resident memory that this process may take; None for no limit.
    """

    enabled: bool = False
    max_memory: int | None = None

    def memory_for(self, recording: Recording, warnings: list[str]) -> int | None:
        """Bytes that values may take while they are measured; None to read all sites of a sample at once.

        Where that cannot keep to `max_memory`, a warning says what stands in the way.
        """
        content: int = getattr(recording, "content_bytes", 0)
        if self.max_memory is None:
            return LEAST if self.enabled else None
        if not self.enabled and content <= self.max_memory:
            return None
        resident = resident_bytes()
        memory = max(LEAST, self.max_memory - resident - RESERVE)
        needed = max(LEAST, cf.least_memory(recording))
        if resident + RESERVE + needed > self.max_memory:
            warnings.append(
                f"max_memory of {self.max_memory:,} bytes cannot be kept to: {resident:,} are in use before values are "
                f"read, and the largest site of one sample needs {needed:,}, because a site is never divided"
            )
        return memory


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) << 10
