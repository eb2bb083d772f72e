"""Numeric operations: every backend against the reference, as ratios measured in one run.

A time is reported only for a result that equals the reference's. Backends take turns within each round, so that a noisy
machine disturbs all of them alike; the ratio of medians is what to look at.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from model_forensics import ops

ROUNDS = 5


@dataclass(frozen=True)
class Case:
    """One operation on one input; `run` takes the backend's name."""

    operation: str
    input: str
    items: int
    run: Callable[[str], npt.NDArray[np.generic]]


def cases() -> list[Case]:
    """Inputs of the size of one recorded site."""
    random = np.random.default_rng(0)
    stream = random.integers(0, 256, 1 << 20, dtype=np.uint8)
    values = random.standard_normal((512, 1024)).astype(np.float32)
    low, step = np.full(1024, -12, np.float32), np.full(1024, 0.25, np.float32)
    grid = ops.Grid("log", 63, low, step)
    symbols = ops.quantize(values, grid)
    cost = random.exponential(4.0, (1024, 64)).astype(np.float32)
    return [
        Case("entropy_windows", "1 Mi bytes, 256/64", stream.size, lambda b: ops.entropy_windows(stream, backend=b)),
        Case("histogram", "512 x 1024", symbols.size, lambda b: ops.histogram(symbols, alphabet=64, backend=b)),
        Case(
            "quantize",
            "512 x 1024, log",
            values.size,
            lambda b: ops.quantize(values, grid, backend=b),
        ),
        Case("codelength", "512 x 1024", symbols.size, lambda b: ops.codelength(symbols, cost, backend=b)),
    ]


def measure(case: Case) -> list[dict[str, object]]:
    """One row per backend: median seconds and the speed relative to the reference.

    Raises:
        AssertionError: a backend's result differs from the reference's; no time is reported then.
    """
    names = [name for name, state in ops.backends()[case.operation].items() if state == "available"]
    reference = case.run("numpy")
    for name in names:
        np.testing.assert_array_equal(case.run(name), reference, err_msg=f"{case.operation} in {name}")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(ROUNDS):
        for name in names:
            start = time.perf_counter()
            case.run(name)
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    return [
        {
            "operation": case.operation,
            "input": case.input,
            "backend": name,
            "seconds": medians[name],
            "items_per_second": case.items / medians[name],
            "times_numpy": medians["numpy"] / medians[name],
        }
        for name in names
    ]


def main(arguments: Sequence[str]) -> int:
    """Print a table, and write JSON where --output says."""
    parser = argparse.ArgumentParser(prog="python -m bench ops", description=__doc__)
    parser.add_argument("--output", type=Path, help="write the rows and the machine as JSON")
    options = parser.parse_args(arguments)
    rows = [row for case in cases() for row in measure(case)]
    machine = {"machine": platform.machine(), "python": platform.python_version(), "numpy": np.__version__}
    if ops.backends()["histogram"]["cpp"] == "available":
        machine["compiler"] = ops.select("histogram", np.empty(0, np.uint8), "cpp").module.compiler
    print("  ".join(f"{key} {value}" for key, value in machine.items()))
    print(f"{'operation':<16} {'input':<20} {'backend':<8} {'M items/s':>10} {'x numpy':>8}")
    for row in rows:
        speed = float(str(row["items_per_second"])) / 1e6
        print(
            f"{row['operation']:<16} {row['input']:<20} {row['backend']:<8} {speed:>10.1f} {row['times_numpy']:>8.1f}"
        )
    if options.output is not None:
        options.output.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
