"""Where the time of a command goes: a Chrome trace, and tables of stages and operations."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from model_forensics import spans
from model_forensics.files import atomic_write

TORCH_SECONDS: Final = 30.0
"""Operations of torch are traced from its first use on, for so long: it keeps every one of them in memory."""
MOST_EVENTS: Final = 1_000_000
"""Spans that the trace holds; tables count all of them."""
MOST_ROWS: Final = 20
"""Of torch's operations, and of kernels, in their tables."""
_SYNC: Final = "model_forensics: clock"


@dataclass
class Row:
    """Spans of one name: how many, how long together, and the process's peak memory when the last one ended."""

    count: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0


class TorchRow(NamedTuple):
    """Calls of one name: how many; own time on the CPU; own time on the GPU, None where no GPU was traced."""

    calls: int
    cpu_seconds: float
    gpu_seconds: float | None


@dataclass(frozen=True)
class Profile:
    """What was measured.

    Attributes:
        seconds: of the whole.
        stages, operations: by name; stages do not overlap, operations lie inside them.
            Both are time that passed in this thread: a GPU may work on after an operation has ended.
        torch: torch's own operations by name.
        kernels: what ran on the GPU, by name, as its clock tells, whoever launched it; None where no GPU was traced.
        torch_seconds: for how long torch and the GPU were traced; None where torch was not used.
        peak_bytes: of the process's resident memory, since it began.
        gpu_peak_bytes: allocated by torch on the GPU that has most; None without a GPU.
        left_out: spans that are in the tables only.
    """

    seconds: float
    stages: dict[str, Row]
    operations: dict[str, Row]
    torch: dict[str, TorchRow]
    kernels: dict[str, TorchRow] | None
    torch_seconds: float | None
    peak_bytes: int
    gpu_peak_bytes: int | None
    left_out: int

    @property
    def gpu_seconds(self) -> float | None:
        """Of all kernels and copies together, which may overlap; None where no GPU was traced."""
        return None if self.kernels is None else sum(row.gpu_seconds or 0.0 for row in self.kernels.values())


class Recording:
    """A profile while it is made; `result` is there when `profiled` has ended."""

    def __init__(self) -> None:
        self.result: Profile | None = None
        self.events: list[dict[str, Any]] = []
        self.rows: dict[spans.Kind, dict[str, Row]] = {"stage": {}, "operation": {}}
        self.left_out = 0
        self.torch = _TorchTrace()
        self.began = time.perf_counter_ns()

    def hear(self, name: str, kind: spans.Kind, began: int, ended: int) -> None:
        row = self.rows[kind].setdefault(name, Row())
        row.count += 1
        row.seconds += (ended - began) / 1e9
        if kind == "stage":
            row.peak_bytes = _peak_bytes()
        if len(self.events) < MOST_EVENTS:
            self.events.append(_event(name, kind, began, ended))
        else:
            self.left_out += 1
        self.torch.go_on()

    def end(self) -> tuple[Profile, list[dict[str, Any]]]:
        """The profile and the trace's events."""
        ended, peak = time.perf_counter_ns(), _peak_bytes()  # before the tables of torch take time and memory
        self.torch.stop()
        profile = Profile(
            seconds=(ended - self.began) / 1e9,
            stages=self.rows["stage"],
            operations=self.rows["operation"],
            torch=self.torch.table,
            kernels=self.torch.kernels,
            torch_seconds=self.torch.seconds,
            peak_bytes=peak,
            gpu_peak_bytes=_gpu_peak_bytes(),
            left_out=self.left_out,
        )
        return profile, [_event("everything", "stage", self.began, ended), *self.events, *self.torch.events]


@contextmanager
def profiled(trace: Path) -> Iterator[Recording]:
    """Profiles the body, in this thread, and writes a Chrome trace (for ui.perfetto.dev), also where the body raises.

    Raises:
        UsageError: the trace is there already.
        StorageError: it could not be written.
    """
    recording = Recording()
    recording.torch.go_on()
    try:
        with spans.heard_by(recording.hear):
            yield recording
    finally:
        recording.result, events = recording.end()
        content = {"traceEvents": events, "displayTimeUnit": "ms"}
        atomic_write(trace, json.dumps(content, ensure_ascii=False), overwrite=False)


class _TorchTrace:
    """Torch's profiler, from when torch is loaded and for a while."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.table: dict[str, TorchRow] = {}
        self.kernels: dict[str, TorchRow] | None = None
        self._with_gpu = False
        self.seconds: float | None = None
        self._profiler: Any = None
        self._began = self._clock = 0

    def go_on(self) -> None:
        """Starts it where torch was loaded meanwhile, and stops it when it has run for long enough."""
        if self._profiler is not None:
            if time.perf_counter_ns() - self._began > TORCH_SECONDS * 1e9:
                self.stop()
        elif self.seconds is None and hasattr(sys.modules.get("torch"), "profiler"):
            self._start()

    def _start(self) -> None:
        from torch import cuda, profiler  # noqa: PLC0415  (it is loaded)

        activities = [profiler.ProfilerActivity.CPU]
        self._with_gpu = cuda.is_available()
        if self._with_gpu:
            activities.append(profiler.ProfilerActivity.CUDA)
        self._profiler = profiler.profile(activities=activities)
        with warnings.catch_warnings():  # of cycles, which there are none of
            warnings.filterwarnings("ignore", "Warning: Profiler clears events")
            self._profiler.start()
        self._began = time.perf_counter_ns()
        with profiler.record_function(_SYNC):
            self._clock = time.perf_counter_ns()  # within this event, so both clocks agree to within its duration

    def stop(self) -> None:
        if self._profiler is None:
            return
        running, self._profiler = self._profiler, None
        running.stop()
        self.seconds = (time.perf_counter_ns() - self._began) / 1e9
        averages = [entry for entry in running.key_averages() if entry.key != _SYNC]
        self.table, kernels = rows_of(averages, with_gpu=self._with_gpu)
        self.kernels = kernels if self._with_gpu else None
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "torch.json"
            running.export_chrome_trace(str(path))
            found = json.loads(path.read_bytes())["traceEvents"]
        sync = next((event["ts"] for event in found if event.get("name") == _SYNC), None)
        if sync is not None:  # without it, its clock cannot be compared with ours
            shift = self._clock / 1e3 - float(sync)
            self.events = [{**one, "ts": float(one["ts"]) + shift} if "ts" in one else one for one in found]


def rows_of(averages: Iterable[Any], *, with_gpu: bool) -> tuple[dict[str, TorchRow], dict[str, TorchRow]]:
    """Torch's operations, and what ran on the GPU: its profiler lists both in one, and a kernel's time in both."""
    operations: dict[str, TorchRow] = {}
    kernels: dict[str, TorchRow] = {}
    for one in averages:
        gpu = one.self_device_time_total / 1e6 if with_gpu else None
        rows = operations if one.device_type.name == "CPU" else kernels
        rows[one.key] = TorchRow(one.count, one.self_cpu_time_total / 1e6, gpu)
    return operations, kernels


def tables(profile: Profile) -> Iterator[tuple[tuple[str, ...], list[tuple[str, ...]]]]:
    """Header and rows of each table, the longest first."""

    def share(seconds: float) -> str:
        return f"{seconds / profile.seconds:.1%}" if profile.seconds else "–"

    def ordered(rows: dict[str, Row]) -> list[tuple[str, Row]]:
        return sorted(rows.items(), key=lambda item: -item[1].seconds)

    stages: list[tuple[str, ...]] = [
        (name, str(row.count), f"{row.seconds:.3f}", share(row.seconds), f"{row.peak_bytes / 1e6:.0f}")
        for name, row in ordered(profile.stages)
    ]
    outside = profile.seconds - sum(row.seconds for row in profile.stages.values())
    stages.append(("outside of stages", "", f"{outside:.3f}", share(outside), f"{profile.peak_bytes / 1e6:.0f}"))
    yield ("stage", "times", "seconds", "share", "peak memory, MB"), stages
    yield (
        ("operation", "times", "seconds", "share"),
        [(name, str(row.count), f"{row.seconds:.3f}", share(row.seconds)) for name, row in ordered(profile.operations)],
    )
    found = sorted(profile.torch.items(), key=lambda item: -(item[1].cpu_seconds + (item[1].gpu_seconds or 0.0)))
    operations = [(name, str(row.calls), f"{row.cpu_seconds:.3f}", _seconds(row)) for name, row in found[:MOST_ROWS]]
    columns = 3 if profile.kernels is None else 4  # without a GPU there is no column for it
    header = ("torch operation", "times", "CPU seconds", "GPU seconds")
    yield header[:columns], [row[:columns] for row in operations]
    if profile.kernels is not None:
        kernels = sorted(profile.kernels.items(), key=lambda item: -(item[1].gpu_seconds or 0.0))[:MOST_ROWS]
        yield (
            ("on the GPU", "times", "GPU seconds"),
            [(name[:80], str(row.calls), _seconds(row)) for name, row in kernels],
        )


def _seconds(row: TorchRow) -> str:
    return "–" if row.gpu_seconds is None else f"{row.gpu_seconds:.3f}"


def _event(name: str, kind: spans.Kind, began: int, ended: int) -> dict[str, Any]:
    duration = (ended - began) / 1e3
    thread = threading.get_native_id()
    return {"name": name, "cat": kind, "ph": "X", "ts": began / 1e3, "dur": duration, "pid": os.getpid(), "tid": thread}


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _gpu_peak_bytes() -> int | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return max(int(torch.cuda.max_memory_allocated(device)) for device in range(torch.cuda.device_count()))
