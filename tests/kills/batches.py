"""A batch of toy incidents, whose workers are forked here and not started, which takes a tenth of the time.

`tests/batch/test_kills.py` strikes a batch with started workers.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from pathlib import Path

from model_forensics.batch import workers
from tests.batch.kills import INCIDENTS, ToyBatch
from tests.batch.toy import make_bundles, run_toy
from tests.kill_points import Outcome, Point
from tests.kills.scenario import FAILURES, Scenario, named


def bundles(root: str) -> None:
    make_bundles(Path(root, "bundles"), **INCIDENTS)


def batch(root: str) -> None:
    workers.get_context = lambda _: multiprocessing.get_context("fork")  # type: ignore[assignment,attr-defined]
    toy = ToyBatch(Path(root))
    run_toy(toy.bundles, toy.output, toy.log, 2, resume=True)


class Batch(Scenario):
    """Every incident done exactly once; a failing disk is no incident's fault."""

    name = "batch"
    module = __name__
    under = "out"
    prepare = "bundles"
    act = "batch"
    kills = (
        Point(action="torn", whom="group"),
        Point(action="before"),
        Point(action="torn"),
        Point(action="after"),
    )

    def violations(self, point: Point, outcome: Outcome) -> Iterator[str]:
        toy = ToyBatch(self.root)
        if point.whom == "group" and not outcome.killed:
            yield f"was not killed but ended with {outcome.returncode}"
        fails = point.action in {one.action for one in FAILURES}
        if fails and outcome.returncode and not named(outcome, "StorageError"):
            yield f"no named error: {outcome.stderr[-600:]}"
        try:
            toy.check_between()
            done, analysed = toy.done(), toy.analysed()
            resumed = self.run()
            if resumed.returncode:
                yield f"cannot be resumed: {resumed.stderr[-600:]}"
            else:
                toy.check_after(done, analysed)
        except AssertionError as problem:
            yield str(problem)
