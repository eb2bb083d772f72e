"""How many workers: chosen with a reason that the summary states."""

from __future__ import annotations

from pathlib import Path

from model_forensics.processes import processors

OVERHEAD = 2**30
"""Bytes that a worker takes beside its models, about: libraries, one bundle, one batch of rows."""
SHARE = 0.8
"""Of the memory that is available, what the workers may take together."""

MEMORY = Path("/proc/meminfo")
OWN_GROUP = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")
DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/kfd"))


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
    """Size of the weights in these local directories; None when one is none, or has its weights in other files."""
    total = 0
    for source in sources:
        if source is None:
            continue
        sizes = [path.stat().st_size for path in Path(source).glob("*.safetensors")]
        if not sizes:
            return None
        total += sum(sizes)
    return total


def has_gpu() -> bool:
    """Whether a driver for one is loaded; without asking torch, which takes seconds to load."""
    return any(device.exists() for device in DRIVERS)


def available_memory() -> int | None:
    """Bytes that are free for new processes, also in this process's control group; None where nothing says so."""
    known = [free for free in (_system_memory(), _group_memory()) if free is not None]
    return min(known, default=None)


def _system_memory() -> int | None:
    try:
        available = _numbers(MEMORY).get("MemAvailable:")
    except OSError:
        return None
    return None if available is None else 1024 * available


def _group_memory() -> int | None:
    """The least that this process's control group and those around it leave; None where none has a limit."""
    try:
        path = next(line[3:] for line in OWN_GROUP.read_text().splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):  # without control groups of version 2
        return None
    own = GROUPS / path.strip("/")
    groups = [group for group in (own, *own.parents) if group.is_relative_to(GROUPS)]
    return min((free for group in groups if (free := _free_in(group)) is not None), default=None)


def _free_in(group: Path) -> int | None:
    try:
        limit, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
        # Files that were read and not used since count as used, and go when memory is needed.
        droppable = _numbers(group / "memory.stat").get("inactive_file", 0)
    except OSError:
        return None
    return None if limit == "max" else max(0, int(limit) - (used - droppable))


def _numbers(file: Path) -> dict[str, int]:
    """From lines of a name and a number."""
    return {name: int(number) for name, number, *_ in map(str.split, file.read_text().splitlines())}
