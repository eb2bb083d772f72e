"""A dozen of the kills and failures that ci/limits/kill_points.py does by the hundred."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

from tests.kill_points import COMPILER, compile_shim

pytestmark = [pytest.mark.skipif(COMPILER is None, reason="needs a C compiler"), pytest.mark.slow]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    path = Path(__file__).parents[2] / "ci" / "limits" / "kill_points.py"
    spec = spec_from_file_location("limits_kill_points", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["record", "record-coded", "compress-bundles"])
def test_nothing_is_lost_or_half_visible(script: ModuleType, tmp_path: Path, name: str) -> None:
    case = script.Case(name, tmp_path, compile_shim(tmp_path))
    points = script.spread(case.calls, script.KILLS, 7) + script.spread(case.calls, script.FAILURES, 5)
    assert len(points) == 12
    assert [words for at, action in points for words in case.violations(at, action)] == []
