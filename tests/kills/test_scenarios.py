"""A dozen of the kills and failures of each scenario that ci/limits/kill_points.py strikes by the hundred."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kill_points import COMPILER, Forks, compile_shim
from tests.kills.every import SCENARIOS
from tests.kills.scenario import Scenario, spread

pytestmark = [pytest.mark.skipif(COMPILER is None, reason="needs a C compiler"), pytest.mark.slow]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_shim(tmp_path_factory.mktemp("shim"))


@pytest.mark.parametrize("kind", SCENARIOS, ids=lambda kind: kind.name)
def test_nothing_is_lost_done_twice_or_half_visible(shim: Path, tmp_path: Path, kind: type[Scenario]) -> None:
    with Forks(shim, kind.module) as forks:
        scenario = kind(tmp_path, forks)
        points = spread(scenario.calls, kind.kills, 7) + spread(scenario.calls, kind.failures, 7)
        assert [words for point in points for words in scenario.strike(point)] == []
