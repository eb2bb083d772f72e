"""Batches with started workers, killed at some of their calls and resumed; `tests/kills` strikes forked ones."""

from __future__ import annotations

import sys

import pytest

from tests.batch.kills import INCIDENTS, ToyBatch
from tests.batch.toy import make_bundles
from tests.kill_points import COMPILER, KillPoints, compile_shim

pytestmark = [pytest.mark.skipif(COMPILER is None, reason="needs a C compiler"), pytest.mark.slow]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A function that runs a toy batch."""
    shim = compile_shim(tmp_path_factory.mktemp("shim"))

    def run(batch: ToyBatch, **point):
        command = [sys.executable, "-m", "tests.batch.toy", batch.bundles, batch.output, batch.log, "2"]
        return KillPoints(shim, batch.output).run(command, **point)

    return run


@pytest.fixture(scope="module")
def calls(run, tmp_path_factory):
    """How many calls a whole run makes."""
    batch = ToyBatch(tmp_path_factory.mktemp("whole"))
    make_bundles(batch.bundles, **INCIDENTS)
    outcome = run(batch)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.calls


@pytest.mark.parametrize("share", [0.01, 0.25, 0.5, 0.75, 0.93])
@pytest.mark.parametrize(("action", "whom"), [("torn", "group"), ("after", "process")])
def test_killed_and_resumed(run, calls, tmp_path, share, action, whom):
    batch = ToyBatch(tmp_path)
    make_bundles(batch.bundles, **INCIDENTS)
    outcome = run(batch, at=max(1, round(share * calls)), action=action, whom=whom)
    assert outcome.killed or whom == "process", outcome.stderr
    batch.check_between()
    done, analysed = batch.done(), batch.analysed()
    resumed = run(batch)
    assert resumed.returncode == 0, resumed.stderr
    batch.check_after(done, analysed)
