"""A toy batch that is killed at one point and resumed; for the tests and for ci/limits/kill_batch.py."""

from __future__ import annotations

import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

from tests.batch.toy import check_result, check_results, make_bundles, noted
from tests.kill_points import KillPoints, Outcome, Whom

INCIDENTS = {"a": "done", "b": "done", "c": "refused", "d": "benign", "e": "done"}


class ToyBatch:
    """Bundles, output and log below one directory."""

    def __init__(self, root: Path, shim: Path, workers: int = 2) -> None:
        self.bundles = make_bundles(root / "bundles", **INCIDENTS)
        self.output = root / "out"
        self.log = root / "log"
        self._points = KillPoints(shim, self.output)
        self._command = [sys.executable, "-m", "tests.batch.toy", self.bundles, self.output, self.log, str(workers)]

    def run(self, at: int | None = None, action: str = "before", whom: Whom = "process") -> Outcome:
        return self._points.run(self._command, at=at, action=action, whom=whom, timeout=3600)

    def check_between(self) -> None:
        """Right after a kill: what can be seen is whole, and the ledger says that it is done."""
        results = self.output / "results"
        visible = sorted(results.glob("[!.]*.json")) if results.exists() else []
        done = self.done()
        for path in visible:
            check_result(path)
            assert path.stem in done
        assert not (self.output / "summary.json").exists() or len(visible) == 3

    def done(self) -> set[str]:
        path = self.output / "batch.sqlite"
        if not path.exists():
            return set()
        with closing(sqlite3.connect(path)) as database:
            if not database.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                return set()
            return {name for (name,) in database.execute("SELECT name FROM incident WHERE state = 'done'")}

    def analysed(self) -> Counter[str]:
        """How often each incident was, by a worker that may not have lived to tell."""
        return Counter(noted(self.log))

    def check_after(self, done_before: set[str], analysed_before: Counter[str]) -> None:
        """After a resume: all is there; what was done before was not done again."""
        check_results(self.bundles, self.output)
        assert self.done() == {"a", "b", "e"}
        analysed = self.analysed()
        for name in done_before:
            assert analysed[name] == analysed_before[name], f"{name} was done and then analysed again"
        assert all(1 <= analysed[name] <= 2 for name in INCIDENTS)


def kill_and_resume(root: Path, shim: Path, at: int, action: str, whom: Whom) -> bool:
    """One point, with every check; says whether the command got there."""
    batch = ToyBatch(root, shim)
    outcome = batch.run(at, action, whom)
    assert outcome.calls >= at or outcome.returncode == 4, outcome.stderr
    batch.check_between()
    done, analysed = batch.done(), batch.analysed()
    resumed = batch.run()
    assert resumed.returncode == 0, resumed.stderr
    batch.check_after(done, analysed)
    return outcome.calls >= at
