"""`python -m bench run`: every benchmark, each after its results were checked; a table of bars, and JSON on request."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from bench import results, table

SUITE = Path(__file__).parent / "suite"
# Other libraries start threads of their own unless told; every contender runs on one thread unless its label says so.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def main(arguments: Sequence[str]) -> int:
    """The exit code is pytest's: 0 if every result was right, whether or not a bar was reached."""
    parser = argparse.ArgumentParser(prog="python -m bench run", description=__doc__)
    parser.add_argument("-k", dest="only", default="", help="pytest's expression: which benchmarks")
    parser.add_argument("--output", type=Path, help="keep the JSON here")
    parser.add_argument("--seconds", type=float, default=3.0, help="time for the rounds of one benchmark")
    parser.add_argument("--size", choices=("full", "tiny"), default="full", help="tiny: see that they work, no numbers")
    options = parser.parse_args(arguments)
    if find_spec("pytest_benchmark") is None:
        print("python -m bench run: needs the bench extra (pip install -e '.[bench]', or make bench)", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        output = options.output or Path(folder) / "run.json"
        output.parent.mkdir(parents=True, exist_ok=True)
        code = run_suite(
            SUITE, output, "-k", options.only, "--bench-size", options.size, "--bench-seconds", str(options.seconds)
        )
        if options.size == "full" and output.exists():
            print(table.as_text(results.read(output)))
    return code


def run_suite(suite: Path, output: Path, *arguments: str) -> int:
    """Run the benchmarks in `suite` in a process of their own, which writes `output` if any succeeded."""
    output.unlink(missing_ok=True)
    configuration = [
        "--rootdir",
        str(SUITE.parents[1]),
        "--import-mode=importlib",
        "-o",
        "addopts=",
        "-o",
        "testpaths=",
    ]
    plugins = ["-p", "bench.plugin", "-p", "no:cacheprovider"]
    shown = ["-q", "-rs", "--tb=short", "--benchmark-quiet"]
    command = [sys.executable, "-m", "pytest", str(suite), *configuration, *plugins, *shown, "--benchmark-disable-gc"]
    command += [f"--benchmark-json={output}", *arguments]
    return subprocess.run(command, env={**os.environ, **ONE_THREAD}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
