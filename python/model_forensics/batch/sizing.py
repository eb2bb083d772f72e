"""How many workers: chosen with a reason that the summary states."""

from __future__ import annotations

from pathlib import Path

from model_forensics.processes import processors

OVERHEAD = 2**30
"""Bytes that a worker takes beside its models, about: libraries, one bundle, one batch of rows."""
SHARE = 0.8
"""Of the memory that is available, what the workers may take together."""


def suitable_workers(*, gpu: bool, model_bytes: int | None) -> tuple[int, str]:
    """How many processes, and why.

    Args:
        gpu: the models run on one.
        model_bytes: of all models that each worker loads; None where that is not known before.
    """
    if gpu:
        return 1, "one worker, because all would share one GPU and its memory"
    if model_bytes is None:
        return 1, "one worker, because the size of the models is not known beforehand; --workers chooses otherwise"
    count, reason = processors(), "one worker for each processor"
    free = available_memory()
    if free is not None and (fitting := int(SHARE * free / (OVERHEAD + model_bytes))) < count:
        each = (OVERHEAD + model_bytes) / 2**30
        count = max(1, fitting)
        reason = f"as many workers as fit into {free / 2**30:.1f} GiB of free memory at {each:.1f} GiB each"
    return count, reason


def model_bytes(*sources: str | None) -> int | None:
    """Size of the weights in these local directories; None when one is no local directory."""
    total = 0
    for source in sources:
        if source is None:
            continue
        if not Path(source).is_dir():
            return None
        total += sum(path.stat().st_size for path in Path(source).glob("*.safetensors"))
    return total


def has_gpu() -> bool:
    """Whether a driver for one is loaded; without asking torch, which takes seconds to load."""
    return any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd"))


def available_memory() -> int | None:
    """Bytes that are free for new processes, also in this process's control group; None where nothing says so."""
    known = [free for free in (_system_memory(), _group_memory()) if free is not None]
    return min(known, default=None)


def _system_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def _group_memory() -> int | None:
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
    except OSError:
        return None
    return None if limit == "max" else max(0, int(limit) - used)
