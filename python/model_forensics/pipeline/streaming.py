"""Forensics of recordings that are larger than memory: whether one is read in blocks, and how large they may be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from model_forensics import cf

if TYPE_CHECKING:
    from model_forensics.cf import Baseline
    from model_forensics.config import ForensicsConfig, StreamingConfig
    from model_forensics.types import ForensicsResult, Recording

RESERVE: Final = 48 << 20
"""Bytes kept free for results and what the interpreter holds back."""
LEAST: Final = 16 << 20
"""Bytes that values get in any case."""


def analyze(
    recording: Recording,
    baseline: Baseline | None,
    config: ForensicsConfig,
    settings: StreamingConfig,
    *,
    windows: bool = True,
    progress: Callable[[int, int], None] | None = None,
    warn: Callable[[str], None],
) -> ForensicsResult:
    """As `cf.analyze`, with the same result, in the memory that the settings leave.

    Args:
        settings: the section `streaming`.
        warn: told what stands in the way where the memory cannot be kept to.
    """
    memory = None
    if must_stream(recording, settings):
        if baseline is not None:
            baseline.prepare(config)  # what it takes counts as in use
        cf.release_memory(recording)  # of what its digests were computed from
        memory = memory_for(recording, settings.max_memory, warn)
    return cf.analyze(recording, baseline, config, windows=windows, memory=memory, progress=progress)


def must_stream(recording: Recording, settings: StreamingConfig) -> bool:
    """Whether the values of this recording are read in blocks."""
    content: int = getattr(recording, "content_bytes", 0)
    return settings.enabled or content > settings.max_memory


def memory_for(recording: Recording, ceiling: int, warn: Callable[[str], None]) -> int:
    """Bytes that values may take while they are measured, if all of this process is to stay below the ceiling."""
    resident, kept = resident_bytes(), cf.kept_memory(recording)
    needed = max(LEAST, cf.least_memory(recording))
    reserve = RESERVE + getattr(recording, "kept_bytes", 0)  # decoded or decrypted and not given back
    if resident + reserve + kept + needed > ceiling:
        warn(
            f"max_memory of {ceiling:,} bytes cannot be kept to: {resident:,} are in use before values are read, "
            f"what is measured at each site of each sample takes {kept:,} until all is judged, "
            f"and the largest site of one sample needs {needed:,}, because a site is never divided"
        )
    return max(LEAST, ceiling - resident - reserve - kept)


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not say."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) << 10
