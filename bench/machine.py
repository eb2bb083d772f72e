"""What a run ran on: written into its JSON, printed above its tables, and compared before two runs are."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

import numpy as np

from bench.threads import core_available
from model_forensics import ops

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = (
    "numpy", "numba", "scipy", "torch", "triton",
    "constriction", "isal", "pcodec", "zlib-ng", "zstandard", "pytest-benchmark",
)  # fmt: skip
# What must be equal for two runs to be compared as they are.
IDENTITY = ("cpu", "cores", "instruction_set")


def describe() -> dict[str, object]:
    """Name → value; no host name and no path, because it is published."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)),
        "caches": _caches(),
        "virtual": " hypervisor " in _cpuinfo("flags") + " ",
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "compiler": _compiler(),
        "instruction_set": _instruction_set(),
        "backends": [name for name, state in ops.backends()["entropy_windows"].items() if state == "available"],
        "libraries": {name: _version(name) for name in LIBRARIES},
    }


class Load:
    """How much of the machine other processes used since this object was made."""

    def __init__(self) -> None:
        self._start = self._now()

    def of_others(self) -> float | None:
        """Share of the time of all processors, 0 to 1, the hypervisor's other guests included; None: unknown."""
        now = self._now()
        if now is None or self._start is None:
            return None
        total, busy, own = (after - before for after, before in zip(now, self._start, strict=True))
        return max(0.0, busy - own) / total if total > 0 else None

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Seconds of all processors since the start: all, not idle, and this process's with its children's."""
        try:
            fields = [int(one) for one in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        except (OSError, ValueError):
            return None
        ticks = os.sysconf("SC_CLK_TCK")
        idle = fields[3] + fields[4]  # idle, and waiting for a disk
        return sum(fields) / ticks, (sum(fields) - idle) / ticks, sum(os.times()[:4])


def commit() -> dict[str, object]:
    """The commit that ran, and whether tracked files differed from it; `id` is None outside a repository."""
    try:
        found = _git("rev-parse", "HEAD")
        dirty = bool(_git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):
        return {"id": None, "dirty": None}
    return {"id": found, "dirty": dirty}


def _git(*arguments: str) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _cpuinfo(field: str) -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.split(":")[0].strip() == field:
            return line.split(":", 1)[1].strip()
    return "unknown"


def _cpu() -> str:
    """The name alone can be as vague as "AMD EPYC" in a virtual machine; family and model say which it is."""
    return f"{_cpuinfo('model name')} (family {_cpuinfo('cpu family')}, model {_cpuinfo('model')})"


def _caches() -> dict[str, str]:
    found = {}
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind = (folder / "type").read_text().strip()
        if kind != "Instruction":
            found[f"L{(folder / 'level').read_text().strip()}"] = (folder / "size").read_text().strip()
    return found


def _compiler() -> str | None:
    if not core_available():
        return None
    return str(ops.select("entropy_windows", np.empty(0, np.uint8), "cpp").module.compiler)


def _instruction_set() -> str | None:
    return str(ops.instruction_set()) if core_available() else None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
