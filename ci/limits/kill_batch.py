"""Kills a batch at every call that changes its output, resumes it, and checks that nothing is lost or done twice.

    python ci/limits/kill_batch.py [--points N]      # by default all of them, about 1,100: an hour

Four campaigns over all points of a run of five incidents by two workers: the whole process group or only the process
at work is killed, before a call, in the middle of what it writes, or after it. Prints what was done, exits with 1 at
the first check that does not hold.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.batch.kills import ToyBatch, kill_and_resume
from tests.kill_points import Whom, compile_shim

CAMPAIGNS: tuple[tuple[str, Whom], ...] = (
    ("torn", "group"),
    ("before", "process"),
    ("torn", "process"),
    ("after", "process"),
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, help="stop after so many")
    wanted = parser.parse_args().points
    with tempfile.TemporaryDirectory(prefix="kill-batch-") as directory:
        root = Path(directory)
        shim = compile_shim(root)
        calls = ToyBatch(root / "whole", shim).run().calls
        reached: Counter[str] = Counter()
        points = [(at, action, whom) for at in range(1, calls + 1) for action, whom in CAMPAIGNS]
        Random(0).shuffle(points)  # so that the first N are a sample of all
        for number, (at, action, whom) in enumerate(points[:wanted]):
            try:
                hit = kill_and_resume(root / str(number), shim, at, action, whom)
            except AssertionError as problem:
                print(f"call {at} of {calls}, {action}, {whom}: {problem}", file=sys.stderr)
                raise
            print(f"\r{number + 1}", end="", file=sys.stderr, flush=True)
            reached[f"{action}, {whom}" if hit else "not reached"] += 1
        print(f"{calls} calls; killed and resumed: {dict(reached)}, in all {reached.total()}; every check held")


if __name__ == "__main__":
    main()
