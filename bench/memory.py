"""How much memory one call takes beyond what the process already holds."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_RESET_PEAK = "5"  # proc(5): sets the peak resident size to the present one


def peak_extra_bytes(run: Callable[[], object]) -> int | None:
    """Growth of the resident memory while `run` works: its temporaries and its result, from Python, NumPy or C++.

    The kernel's own count of resident pages is read (VmHWM after, minus VmRSS before), so nothing that allocates can
    hide; memory that was freed but kept by the allocator is given back first, so that it counts when it is used again.
    Exact to some pages; memory that is taken and never written is not counted, because it does not exist.

    Returns:
        Bytes, or None where the system cannot tell (no Linux, or /proc/self/clear_refs is not writable).
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        _CLEAR.write_text(_RESET_PEAK)
    except (AttributeError, OSError):
        return None
    before = _kibibytes("VmRSS")
    result = run()
    after = _kibibytes("VmHWM")
    del result  # alive until the peak has been read
    return max(0, after - before) * 1024


def _kibibytes(field: str) -> int:
    return next(int(line.split()[1]) for line in _STATUS.read_text().splitlines() if line.startswith(f"{field}:"))
