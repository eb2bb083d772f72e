"""What must hold of a toy batch that was killed or failed, and what after it was resumed."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.batch.toy import check_result, check_results, noted

INCIDENTS = {"a": "done", "b": "done", "c": "refused", "d": "benign", "e": "done"}
DONE = {name for name, behaviour in INCIDENTS.items() if behaviour == "done"}


@dataclass(frozen=True)
class ToyBatch:
    """A batch of `INCIDENTS` in `bundles`, with its output in `out` and the toys' log in `log`."""

    root: Path

    @property
    def bundles(self) -> Path:
        return self.root / "bundles"

    @property
    def output(self) -> Path:
        return self.root / "out"

    @property
    def log(self) -> Path:
        return self.root / "log"

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

    def check_between(self) -> None:
        """Before it is resumed: what can be seen is whole, and the ledger says that it is done."""
        results = self.output / "results"
        visible = sorted(results.glob("[!.]*.json")) if results.exists() else []
        done = self.done()
        for path in visible:
            check_result(path)
            assert path.stem in done
        assert not (self.output / "summary.json").exists() or len(visible) == len(DONE)

    def check_after(self, done_before: set[str], analysed_before: Counter[str]) -> None:
        """After it was resumed: all is there; what was done before was not done again."""
        check_results(self.bundles, self.output)
        assert self.done() == DONE
        analysed = self.analysed()
        for name in done_before:
            assert analysed[name] == analysed_before[name], f"{name} was done and then analysed again"
        assert all(1 <= analysed[name] <= 2 for name in INCIDENTS), analysed
