"""GPU rows: `python -m bench gpu [--output JSON]`, on a machine with a CUDA GPU.

Every result is compared with the CPU's, bit for bit, before anything is timed. Times are of CUDA events, medians over
rounds in which all rows take turns with a copy of 1 GiB; bandwidth is what that copy reads and writes. Two more copies
are queued before each, so that a call is ready when the GPU gets to it and its Python is not timed, as in any stream of
work; where a call waits for the GPU itself (the coder, which must know how long its result is), it is.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from bench import inputs
from bench.machine import commit
from model_forensics import ops

TOKENS, CHANNELS = 1 << 17, 1 << 11  # 1 GiB of float32: many times any L2
SYMBOLS = 1 << 30
BYTES = 1 << 26  # of the skewed ones that are made, then repeated
LEVELS = 31
BLOCK = (256, 64)
REDUCE = ("channel", "site", "block")
ROUNDS = 30


@dataclass(frozen=True)
class Row:
    """One operation. `bytes` is what it must move: read, for all but `patch_rows`, which also writes; of the arithmetic
    coder the decoded bytes, in both directions."""

    case: str
    given: str
    bytes: int
    run: Callable[[], Any]
    backend: str = "cuda"


def rows(device: Any) -> list[Row]:
    """The rows, each result already checked against the CPU."""
    torch.manual_seed(2026)
    values = torch.randn(TOKENS, CHANNELS, device=device) * torch.exp(torch.randn(CHANNELS, device=device))
    low, step = np.full(CHANNELS, -8, np.float32), np.full(CHANNELS, 0.5, np.float32)
    grid = ops.Grid("log", levels=LEVELS, low=low, step=step)
    cost = ops.CostTable.of(np.random.default_rng(2026).exponential(4.0, (CHANNELS, LEVELS + 1)).astype(np.float32))
    symbols = torch.randint(0, 256, (SYMBOLS,), dtype=torch.uint8, device=device)
    nibbles = symbols & 15
    exponents = ((values.view(torch.int32).flatten() >> 23) & 255).to(torch.uint8)
    shape = f"float32 {list(values.shape)}, log grid of {LEVELS} levels"

    def fused(x: Any) -> Any:
        return ops.codelength(x, cost, grid=grid, reduce=REDUCE, block=BLOCK)

    work: list[tuple[str, str, Any, Callable[[Any], Any]]] = [
        ("codelength, fused", f"{shape}, to {', '.join(REDUCE)}", values, fused),
        ("quantize", shape, values, lambda x: ops.quantize(x, grid)),
        ("histogram, fused", shape, values, lambda x: ops.histogram(x, grid=grid)),
        ("entropy_windows", f"{SYMBOLS} random bytes, 256/64", symbols, ops.entropy_windows),
        ("entropy_windows, exponent bytes", f"{exponents.numel()} bytes, 256/64", exponents, ops.entropy_windows),
        (
            "entropy_windows, 16 symbols",
            f"{SYMBOLS} random symbols, 256/64",
            nibbles,
            lambda x: ops.entropy_windows(x, alphabet=16),
        ),
    ]
    for case, _, data, run in work:
        _check(case, run(data), run(data.cpu().numpy()))
    made = [
        Row(f"gpu: {case}", given, data.nbytes, lambda run=run, data=data: run(data)) for case, given, data, run in work
    ]
    skewed = torch.from_numpy(inputs.skewed_bytes(BYTES)).to(device).repeat(SYMBOLS // BYTES)
    return [
        *made,
        *_coder_rows("", f"{SYMBOLS} skewed bytes, 5.4 bits each", skewed, "static"),
        *_coder_rows(", float32", f"float32 {list(values.shape)}", values, "static"),
        *_coder_rows("", f"{SYMBOLS} skewed bytes, 5.4 bits each", skewed, "adaptive"),
        _patch_row(device),
    ]


def _coder_rows(suffix: str, given: str, data: Any, model: Any) -> list[Row]:
    """Encoding and decoding; streams and results stay on the device."""
    case = f"{model}{suffix}"
    stream = ops.arithmetic_encode(data, model=model)
    expected = np.frombuffer(ops.arithmetic_encode(data.cpu().numpy(), model=model), np.uint8)
    _check(f"arithmetic_encode, {case}", stream, expected)
    if not torch.equal(ops.arithmetic_decode(stream), data.flatten().view(torch.uint8)):
        raise SystemExit(f"arithmetic_decode, {case}: the result is not what was encoded; nothing is timed")
    coded = f"{given}, stored in {stream.numel() / data.nbytes:.1%}"
    return [
        Row(f"gpu: arithmetic_encode, {case}", coded, data.nbytes, lambda: ops.arithmetic_encode(data, model=model)),
        Row(f"gpu: arithmetic_decode, {case}", coded, data.nbytes, lambda: ops.arithmetic_decode(stream)),
    ]


def _patch_row(device: Any) -> Row:
    """Half of the features of every token of 64 rows, each row from a donor of its own."""
    rows, tokens, features = 64, 1024, 8192
    hidden = torch.randn(rows, tokens, features, device=device).to(torch.bfloat16)
    donors = torch.randn(rows, tokens, features // 2, device=device).to(torch.bfloat16)
    edits = [ops.PatchEdit(row, None, slice(features // 4, 3 * features // 4), donors[row]) for row in range(rows)]
    plan = ops.patch_plan(edits, tokens=tokens, features=features)
    expected = hidden.clone()
    expected[:, :, features // 4 : 3 * features // 4] = donors
    ops.patch_rows(hidden, plan)
    if not torch.equal(hidden.view(torch.int16), expected.view(torch.int16)):
        raise SystemExit("patch_rows: the result is not what plain indexing gives; nothing is timed")
    given = f"bfloat16 {[rows, tokens, features]}, half of the features from donors"
    return Row("gpu: patch_rows", given, 2 * donors.nbytes, lambda: ops.patch_rows(hidden, plan), "triton")


def _check(case: str, found: Any, expected: Any) -> None:
    pairs = zip(found, expected, strict=True) if isinstance(expected, tuple) else [(found, expected)]
    for ours, reference in pairs:
        if not np.array_equal(ours.cpu().numpy(), reference):
            raise SystemExit(f"{case}: the GPU's result is not the CPU's; nothing is timed")


def measure(work: list[Row], device: Any) -> dict[str, float]:
    """Median seconds of every row, and of "copy", a copy of 1 GiB on the device."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    contenders = {"copy": lambda: target.copy_(source), **{row.case: row.run for row in work}}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            for _ in range(2):
                target.copy_(source)
            start.record()
            run()
            end.record()
            end.synchronize()
            seconds[name].append(start.elapsed_time(end) / 1000)
    return {name: median(times[ROUNDS // 5 :]) for name, times in seconds.items()}


def _entry(name: str, ours: bool, items: int, seconds: float) -> dict[str, object]:
    return {
        "name": name,
        "threads": 1,
        "ours": ours,
        "items": items,
        "median_seconds": seconds,
        "peak_extra_bytes": None,
        "stored_bytes": None,
    }


def main(arguments: list[str]) -> int:
    """Measure and print; the JSON has the form of the other benchmarks' (`bench.results`)."""
    parser = argparse.ArgumentParser(prog="python -m bench gpu", description=__doc__)
    parser.add_argument("--output", type=Path, help="also write the JSON here")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("python -m bench gpu: torch sees no CUDA GPU; nothing was measured", file=sys.stderr)
        return 1
    device = torch.device("cuda", torch.cuda.current_device())
    work = rows(device)
    seconds = measure(work, device)
    copy_rate = (2 << 30) / seconds["copy"]
    benchmarks = []
    print(f"{torch.cuda.get_device_name(device)}: copies {copy_rate / 1e9:.0f} GB/s (read + write)", file=sys.stderr)
    for row in work:
        share = row.bytes / seconds[row.case] / copy_rate
        print(f"{row.case}: {row.bytes / seconds[row.case] / 1e9:.0f} GB/s, {share:.0%} of copying", file=sys.stderr)
        entries = [
            _entry(row.backend, True, row.bytes, seconds[row.case]),
            _entry("copy", False, 2 << 30, seconds["copy"]),
        ]
        info = {"case": row.case, "unit": "B", "given": row.given, "contenders": entries}
        benchmarks.append({"name": row.case, "extra_info": info})
    document = {
        "machine_info": {
            "gpu": torch.cuda.get_device_name(device),
            "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            "python": platform.python_version(),
            "compiler": ops.select("histogram", torch.empty(0, 0, dtype=torch.uint8, device=device)).module.compiler,
            "libraries": {"torch": torch.__version__, "cuda of torch": torch.version.cuda, "numpy": np.__version__},
        },
        "commit_info": commit(),
        "datetime": datetime.now(UTC).isoformat(),
        "benchmarks": benchmarks,
    }
    text = json.dumps(document, indent=1)
    if options.output is not None:
        options.output.write_text(text)
    print(text)
    return 0
