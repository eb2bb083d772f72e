"""Killed at some of the points of ci/limits/kill_batch.py, and resumed."""

from __future__ import annotations

import pytest

from tests.batch.kills import ToyBatch, kill_and_resume
from tests.kill_points import COMPILER, compile_shim

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C compiler")


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    return compile_shim(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="module")
def calls(shim, tmp_path_factory):
    """How many calls a whole run makes."""
    outcome = ToyBatch(tmp_path_factory.mktemp("whole"), shim).run()
    assert outcome.returncode == 0, outcome.stderr
    return outcome.calls


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.85, 0.93])
@pytest.mark.parametrize(("action", "whom"), [("torn", "group"), ("after", "process")])
def test_killed_and_resumed(shim, calls, tmp_path, share, action, whom):
    assert kill_and_resume(tmp_path, shim, max(1, round(share * calls)), action, whom)
