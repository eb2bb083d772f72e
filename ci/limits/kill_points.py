"""Kills, and fails, commands at their calls that change files; checks that nothing is lost or half-visible.

    python ci/limits/kill_points.py [--kills 600] [--failures 200] [--output FILE.json]

Each case is run once to count its calls, then killed (before, in the middle of, after) and failed (disk full, input or
output error) at calls spread evenly over all of them. After each, what is visible must be what was there or what was to
come, whole; and the same command must then finish.
"""

from __future__ import annotations

import argparse
import errno
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from model_forensics.bundle import load_bundle
from tests.kill_points import KillPoints, Outcome, compile_shim

RECORD = """
import sys
from datetime import UTC, datetime
import numpy as np
from model_forensics.bundle import BundleWriter
place, seed, codec = sys.argv[1], int(sys.argv[2]), sys.argv[3]
random = np.random.default_rng(seed)
with BundleWriter(place, kind="benign", overwrite=True, codec=codec, bundle_id="b", only_environment=True,
                  created_at=datetime(2020, 1, 1, tzinfo=UTC)) as writer:
    for _ in range(4):
        values = random.standard_normal((20, 30)).astype(np.float32)
        writer.add_sample(activations={"L0.mlp": values, "L1.mlp": values[:3]}, outputs={"logits": values[:1]})
"""
COMPRESS = """
import sys
from model_forensics.cli.main import main
sys.argv = ["model-forensics", "compress-bundles", sys.argv[1], "--older-than", "90d", "--quiet"]
main()
"""
KILLS = ("before", "torn", "after")
FAILURES = tuple(f"{form}:{number}" for number in (errno.ENOSPC, errno.EIO) for form in ("errno", "torn-errno"))


class Case:
    """A command that turns the bundle `root/b` from one state into another."""

    def __init__(self, name: str, work: Path, shim: Path) -> None:
        self.name, self.root = name, work / name
        self.points = KillPoints(shim, self.root)
        self.before, after = work / f"{name}-before", work / f"{name}-after"
        self._record(self.before, 1)
        if name == "compress-bundles":
            self.command: Sequence[str | Path] = [sys.executable, "-c", COMPRESS, self.root]
        else:
            codec = "arithmetic" if name == "record-coded" else "none"
            self.command = [sys.executable, "-c", RECORD, self.root / "b", "2", codec]
        self.reset()
        self.calls = self._checked(self.points.run(self.command)).calls
        assert self.calls > 20, "the calls are seen"
        shutil.copytree(self.root / "b", after)
        self.states = {content(self.before): "before", content(after): "after"}
        assert len(self.states) == 2, "the command changes something"

    def _record(self, place: Path, seed: int) -> None:
        self._checked(self.points.run([sys.executable, "-c", RECORD, place, str(seed), "none"]))

    def _checked(self, outcome: Outcome) -> Outcome:
        assert outcome.returncode == 0, outcome.stderr
        return outcome

    def reset(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.before, self.root / "b")

    def violations(self, at: int, action: str) -> Iterator[str]:
        """What went wrong when the call was killed or failed, in words."""
        self.reset()
        outcome = self.points.run(self.command, at=at, action=action)
        visible = sorted(name for name in os.listdir(self.root) if not name.startswith("."))
        if visible != ["b"]:
            yield f"visible: {visible}"
        elif content(self.root / "b") not in self.states:
            yield "the bundle is neither the old nor the new one"
        else:
            load_bundle(self.root / "b")
        if action in KILLS and not outcome.killed:
            yield f"was not killed but ended with {outcome.returncode}"
        if action not in KILLS:
            yield from self._failure(outcome)
        again = self.points.run(self.command)
        if again.returncode or self.states.get(content(self.root / "b")) != "after":
            yield f"the same command did not finish: {again.stderr[-300:]}"
        if self.name == "compress-bundles" and os.listdir(self.root) != ["b"]:
            yield f"left over: {os.listdir(self.root)}"

    def _failure(self, outcome: Outcome) -> Iterator[str]:
        if outcome.returncode == 0:  # what failed was the removal of what is no longer needed, or could be done without
            if self.states[content(self.root / "b")] != "after":
                yield "a failed call was passed over in silence"
        elif "StorageError" not in outcome.stderr and "writing failed" not in outcome.stderr:
            yield f"no named error: {outcome.stderr[-300:]}"


def content(bundle: Path) -> tuple[tuple[str, bytes], ...]:
    return tuple((str(p.relative_to(bundle)), p.read_bytes()) for p in sorted(bundle.rglob("*")) if p.is_file())


def spread(calls: int, actions: Sequence[str], wanted: int) -> list[tuple[int, str]]:
    """At most `wanted` of all (call, action), evenly spaced."""
    every = [(at, action) for at in range(1, calls + 1) for action in actions]
    step = max(1.0, len(every) / wanted)
    return [every[int(number * step)] for number in range(min(wanted, len(every)))]


CASES = ("record", "record-coded", "compress-bundles")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--kills", type=int, default=600)
    options.add_argument("--failures", type=int, default=200)
    options.add_argument("--output", type=Path)
    given = options.parse_args()
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="kill points ") as temporary,
        tempfile.TemporaryDirectory(prefix="shim-") as plain,  # LD_PRELOAD ends a path at a space
    ):
        work = Path(temporary)
        shim = compile_shim(Path(plain))
        for name in CASES:
            started = time.perf_counter()
            case = Case(name, work, shim)
            kills = spread(case.calls, KILLS, given.kills // len(CASES))
            failures = spread(case.calls, FAILURES, given.failures // len(CASES))
            wrong = [f"{name} {action} at {at}: {text}" for at, action in kills + failures
                     for text in case.violations(at, action)]  # fmt: skip
            rows.append({"command": name, "calls": case.calls, "kills": len(kills), "failures": len(failures),
                         "violations": len(wrong), "seconds": time.perf_counter() - started})  # fmt: skip
            print(*wrong, json.dumps(rows[-1]), sep="\n", flush=True)
    if given.output:
        given.output.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
    return 1 if any(row["violations"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
