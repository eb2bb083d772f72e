"""Every benchmark is reached by its name."""

from __future__ import annotations

from importlib import import_module
from inspect import signature
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "bench"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if "def main(" in path.read_text() and path.stem[0] != "_")


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_takes_its_arguments_and_gives_an_exit_code(name: str) -> None:
    pytest.importorskip("pytest_benchmark", reason="benchmarks need the bench extra")
    main = signature(import_module(f"bench.{name}").main)
    assert (list(main.parameters), main.return_annotation) == (["arguments"], "int")
