"""The profile: a trace that viewers read, and tables that agree with it."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest

from model_forensics import ops, profile, spans
from model_forensics.errors import UsageError


@pytest.fixture
def trace(tmp_path):
    return tmp_path / "eine Spur.json"


def events(trace, category: str) -> list[dict]:
    return [event for event in json.loads(trace.read_text())["traceEvents"] if event.get("cat") == category]


def test_stages_and_operations_are_in_the_trace_and_in_the_tables(trace):
    with profile.profiled(trace) as recording:
        for _ in range(3):
            with spans.span("forensics"):
                ops.entropy_windows(np.zeros(64, np.uint8), window=16, stride=16)
    found = recording.result
    assert found is not None
    assert found.stages["forensics"].count == 3
    ((name, row),) = found.operations.items()
    assert name.startswith("entropy_windows (")
    assert row.count == 3
    assert row.seconds <= found.stages["forensics"].seconds <= found.seconds
    assert found.peak_bytes >= found.stages["forensics"].peak_bytes > 0
    assert len(events(trace, "operation")) == 3
    whole, *stages = events(trace, "stage")
    assert whole["name"] == "everything"
    for inner, outer in zip(events(trace, "operation"), stages, strict=True):
        assert outer["ts"] <= inner["ts"] <= inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"]


def test_torch_is_traced_on_the_same_clock(trace):
    torch = pytest.importorskip("torch")
    with profile.profiled(trace) as recording, spans.span("search"):
        torch.ones(8, 8) @ torch.ones(8, 8)
    found = recording.result
    assert found is not None
    assert found.torch["aten::mm"].calls == 1
    if not torch.cuda.is_available():
        assert (found.kernels, found.gpu_seconds, found.torch["aten::mm"].gpu_seconds) == (None, None, None)
        assert not any("GPU" in column for header, _ in profile.tables(found) for column in header)
    assert found.torch_seconds is not None
    (stage,) = [event for event in events(trace, "stage") if event["name"] == "search"]
    (product,) = [event for event in events(trace, "cpu_op") if event["name"] == "aten::mm"]
    (clock,) = [event for event in json.loads(trace.read_text())["traceEvents"] if event["name"] == profile._SYNC]
    slack = clock["dur"] + 1  # µs: the clocks were compared within this event
    assert stage["ts"] - slack <= product["ts"] <= stage["ts"] + stage["dur"] + slack


@pytest.mark.gpu
def test_what_runs_on_the_gpu_is_measured_by_its_clock(trace):
    import torch

    matrix = torch.rand(4096, 4096, device="cuda")
    with profile.profiled(trace) as recording, spans.span("search"):
        matrix @ matrix
        torch.cuda.synchronize()
    found = recording.result
    assert found is not None
    assert found.gpu_seconds is not None
    assert 0 < found.gpu_seconds < found.seconds
    assert found.torch["aten::mm"].gpu_seconds == pytest.approx(found.gpu_seconds, rel=0.1)


def test_a_kernel_is_not_counted_twice():
    def average(key: str, device: str, cpu: float, gpu: float) -> SimpleNamespace:
        return SimpleNamespace(
            key=key,
            device_type=SimpleNamespace(name=device),
            count=1,
            self_cpu_time_total=cpu,
            self_device_time_total=gpu,
        )

    listed = [average("aten::mm", "CPU", 2e6, 3e6), average("sgemm", "CUDA", 0, 3e6), average("ours", "CUDA", 0, 1e6)]
    operations, kernels = profile.rows_of(listed, with_gpu=True)
    assert operations == {"aten::mm": (1, 2.0, 3.0)}
    assert kernels == {"sgemm": (1, 0.0, 3.0), "ours": (1, 0.0, 1.0)}


def test_torch_is_traced_for_a_while_only(trace, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(profile, "TORCH_SECONDS", 0.0)
    with profile.profiled(trace) as recording:
        with spans.span("first"):
            torch.ones(1).exp()
        torch.ones(1).tanh()
    found = recording.result
    assert found is not None
    assert "aten::exp" in found.torch
    assert "aten::tanh" not in found.torch


def test_long_runs_keep_a_bounded_trace_and_whole_tables(trace, monkeypatch):
    monkeypatch.setattr(profile, "MOST_EVENTS", 10)
    with profile.profiled(trace) as recording:
        for _ in range(25):
            spans.ended("step", "operation", spans.now())
    found = recording.result
    assert found is not None
    assert (found.operations["step"].count, found.left_out) == (25, 15)
    assert len(events(trace, "operation")) == 10


def test_what_fails_is_profiled_too(trace):
    with pytest.raises(ZeroDivisionError), profile.profiled(trace), spans.span("forensics"):
        raise ZeroDivisionError
    assert [event["name"] for event in events(trace, "stage")] == ["everything", "forensics"]


def test_a_trace_is_not_overwritten(trace):
    trace.write_text("kept")
    with pytest.raises(UsageError), profile.profiled(trace):
        pass
    assert trace.read_text() == "kept"


def test_where_it_is_off_no_operation_reads_a_clock(monkeypatch):
    def forbidden() -> int:
        raise AssertionError("a clock was read")

    monkeypatch.setattr(spans.time, "perf_counter_ns", forbidden)
    with spans.span("stage"):
        ops.entropy_windows(np.zeros(64, np.uint8), window=16, stride=16)


def test_tables_account_for_all_of_the_time(trace):
    with profile.profiled(trace) as recording, spans.span("forensics"):
        pass
    assert recording.result is not None
    (header, rows), *_ = profile.tables(recording.result)
    assert header[0] == "stage"
    assert [row[0] for row in rows][-1] == "outside of stages"
    assert sum(float(row[3].rstrip("%")) for row in rows) == pytest.approx(100, abs=0.2)
