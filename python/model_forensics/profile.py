"""Where the time of a command goes: a Chrome trace, and tables of stages and operations."""

from __future__ import annotations

import json
import os
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from model_forensics import spans
from model_forensics.files import atomic_write

TORCH_SECONDS: Final = 30.0
"""Operations of torch are traced from its first use on, for so long: it keeps every one of them in memory."""
MOST_EVENTS: Final = 1_000_000
"""Spans that the trace holds; tables count all of them."""
_SYNC: Final = "model_forensics: clock"


@dataclass
class Row:
    """Spans of one name: how many, how long together, and the process's peak memory when the last one ended."""

    count: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0


@dataclass(frozen=True)
class Profile:
    """What was measured.

    Attributes:
        seconds: of the whole.
        stages, operations: by name; stages do not overlap, operations lie inside them.
        torch: torch's own operations by name, as (calls, own CPU seconds, own GPU seconds).
        torch_seconds: for how long these were traced; None where torch was not used.
        peak_bytes: of the process's resident memory, since it began.
        gpu_peak_bytes: allocated by torch; None without a GPU.
        left_out: spans that are in the tables only.
    """

    seconds: float
    stages: dict[str, Row]
    operations: dict[str, Row]
    torch: dict[str, tuple[int, float, float]]
    torch_seconds: float | None
    peak_bytes: int
    gpu_peak_bytes: int | None
    left_out: int


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
        ended = time.perf_counter_ns()
        self.torch.stop()
        profile = Profile(
            seconds=(ended - self.began) / 1e9,
            stages=self.rows["stage"],
            operations=self.rows["operation"],
            torch=self.torch.table,
            torch_seconds=self.torch.seconds,
            peak_bytes=_peak_bytes(),
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
        self.table: dict[str, tuple[int, float, float]] = {}
        self.seconds: float | None = None
        self._profiler: Any = None
        self._began = 0

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
        if cuda.is_available():
            activities.append(profiler.ProfilerActivity.CUDA)
        self._profiler = profiler.profile(activities=activities)
        self._profiler.start()
        self._began = time.perf_counter_ns()
        with profiler.record_function(_SYNC):
            pass

    def stop(self) -> None:
        if self._profiler is None:
            return
        running, self._profiler = self._profiler, None
        running.stop()
        self.seconds = (time.perf_counter_ns() - self._began) / 1e9
        averages = [entry for entry in running.key_averages() if entry.key != _SYNC]
        self.table = {
            one.key: (one.count, one.self_cpu_time_total / 1e6, one.self_device_time_total / 1e6) for one in averages
        }
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "torch.json"
            running.export_chrome_trace(str(path))
            found = json.loads(path.read_bytes())["traceEvents"]
        sync = next((event["ts"] for event in found if event.get("name") == _SYNC), None)
        if sync is not None:  # without it, its clock cannot be compared with ours
            shift = self._began / 1e3 - float(sync)
            self.events = [{**one, "ts": float(one["ts"]) + shift} if "ts" in one else one for one in found]


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
    found = sorted(profile.torch.items(), key=lambda item: -(item[1][1] + item[1][2]))[:20]
    header = ("torch operation", "times", "CPU seconds", "GPU seconds")
    yield header, [(name, str(count), f"{cpu:.3f}", f"{gpu:.3f}") for name, (count, cpu, gpu) in found]


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
    return int(torch.cuda.max_memory_allocated())
