"""How well forensics detects, localises and stays quiet: `python -m bench cf_quality [DIRECTORY OF REAL RECORDINGS]`.

Writes JSON, and the tables of docs/forensics.md from it. Protocols: FAULTS.md beside the recordings, and the modules
of `bench/cf_evaluation`. Without the directory the real recordings are left out.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from bench import threads
from bench.cf_evaluation import calibration, damage, kept_aside, propagation, real, records, simulation, tables, windows
from bench.cf_evaluation.networks import Network, character_model, minilm
from bench.cf_evaluation.plan import CONFIG, FULL, QUICK, Plan

PARTS = ("calibration", "propagation", "windows", "real", "simulation")  # the longest first
ON_NETWORKS = ("calibration", "propagation", "windows")
PROCESSES = 2
RESULTS = Path(__file__).parent / "cf_evaluation" / "results.json"
PAGE = Path(__file__).parents[1] / "docs" / "forensics.md"


def networks(plan: Plan) -> list[Network]:
    return _networks(plan.pool, plan.tested, plan.training_steps)


@cache
def _networks(pool: int, tested: int, training_steps: int) -> list[Network]:
    """Made once a process."""
    return [character_model(pool, tested, training_steps), minilm(pool, tested)]


def run_part(part: str, plan: Plan, directory: Path | None, held_out: bool) -> Any:
    """Plain JSON values of one part; None where there is nothing to run."""
    if part == "real":
        return None if directory is None else real.measure(directory, plan, held_out)
    if held_out and part != "propagation":
        return None
    if part == "simulation":
        return simulation.measure(plan)
    made = networks(plan)
    if part == "propagation":
        damages = kept_aside.DAMAGES if held_out else damage.DAMAGES
        return [row for network in made for row in propagation.measure(network, plan, damages)]
    if part == "calibration":
        return [row for network in made for row in calibration.measure(network, plan)]
    return [row for network in made for row in windows.measure(network, plan, windows.SPAN_FAULTS)]


class Ran(NamedTuple):
    """What one part gave.

    Attributes:
        notes: of the networks, where the part used them.
        seconds: of the processor, the networks' preparation included where this part came first.
    """

    part: str
    result: Any
    notes: dict[str, str]
    seconds: int


def timed_part(part: str, plan: Plan, directory: Path | None, held_out: bool) -> Ran:
    torch.set_num_threads(1)
    threads.use_threads(1)
    start = time.process_time()
    result = run_part(part, plan, directory, held_out)
    notes = (
        {network.name: network.note for network in networks(plan)} if part in ON_NETWORKS and result is not None else {}
    )
    return Ran(part, result, notes, round(time.process_time() - start))


def environment(plan: Plan) -> dict[str, Any]:
    return {
        "python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__,
        "machine": platform.machine(), "methods": list(CONFIG.compression_methods), "quick": plan is QUICK,
    }  # fmt: skip


def main(arguments: Sequence[str]) -> int:
    options = parse(arguments)
    plan = QUICK if options.quick else FULL
    outcome: dict[str, Any] = records.read(options.output) if options.output.exists() else {}
    outcome["environment"] = environment(plan)
    key: Callable[[str], str] = (lambda part: f"{part}_kept_aside") if options.held_out else str
    context = multiprocessing.get_context("spawn")  # a fork of a process that has used torch may hang
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read by BLAS in each of the processes
    with ProcessPoolExecutor(PROCESSES, mp_context=context) as pool:
        parts = sorted(set(options.parts), key=PARTS.index)
        runs = [pool.submit(timed_part, part, plan, options.directory, options.held_out) for part in parts]
        for run in as_completed(runs):
            part, result, notes, seconds = run.result()
            if result is None:
                continue
            outcome[key(part)] = result
            outcome.setdefault("networks", {}).update(notes)
            outcome.setdefault("processor_seconds", {})[key(part)] = seconds
            records.write(outcome, options.output)
            print(f"{key(part)}: {seconds} s", file=sys.stderr)
    text = tables.render(records.read(options.output))  # what is shown is what the file holds
    print(text)
    if options.write:
        options.write.write_text(tables.replace(options.write.read_text(), text))
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench cf_quality", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("directory", nargs="?", type=Path, help="folder of the real recordings")
    parser.add_argument("--quick", action="store_true", help="a small part of everything, for development")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="only these")
    parser.add_argument("--held-out", action="store_true", help="only the faults kept aside, in tables of their own")
    parser.add_argument("--output", type=Path, default=RESULTS, help="JSON; parts that are not run stay as they are")
    parser.add_argument("--write", type=Path, nargs="?", const=PAGE, help="put the tables into this page")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
