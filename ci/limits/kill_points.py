"""Kills, and fails, work at its calls that change files; checks that nothing is lost, done twice or half-visible.

    python ci/limits/kill_points.py [--kills 60] [--failures 60] [--only WORD] [--output FILE.json]

Each scenario of tests/kills is run once to count its calls, then killed (before, in the middle of, after) and failed
(disk full, input or output error, once or from then on) at calls spread evenly over all of them, at most so many for
each scenario. Exits with 1 when something did not hold.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.kill_points import Forks, compile_shim
from tests.kills.every import SCENARIOS
from tests.kills.scenario import Scenario, spread


def strike(kind: type[Scenario], work: Path, shim: Path, kills: int, failures: int) -> dict[str, Any]:
    """All points of one scenario; prints what did not hold."""
    started = time.perf_counter()
    with Forks(shim, kind.module) as forks:
        scenario = kind(work, forks)
        killed, failed = spread(scenario.calls, kind.kills, kills), spread(scenario.calls, kind.failures, failures)
        wrong = [words for point in killed + failed for words in scenario.strike(point)]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return {
        "command": kind.name, "calls": scenario.calls, "kills": len(killed), "failures": len(failed),
        "violations": len(wrong), "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=60)
    options.add_argument("--failures", type=int, default=60)
    options.add_argument("--only", default="", help="scenarios whose name holds this")
    options.add_argument("--output", type=Path)
    given = options.parse_args()
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="kill points ") as temporary,
        tempfile.TemporaryDirectory(prefix="shim-") as plain,  # LD_PRELOAD ends a path at a space
    ):
        shim = compile_shim(Path(plain))
        for number, kind in enumerate(SCENARIOS):
            if given.only in kind.name:
                rows.append(strike(kind, Path(temporary, str(number)), shim, given.kills, given.failures))
                print(json.dumps(rows[-1]), flush=True)
                if given.output:
                    given.output.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    return 1 if any(row["violations"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
