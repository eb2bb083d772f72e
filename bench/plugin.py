"""The pytest plugin behind `python -m bench run`: sizes of inputs, the `contest` fixture, what the JSON says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from bench import machine
from bench.contest import Contest
from bench.threads import threads_kept

_LOAD = pytest.StashKey[machine.Load]()


@dataclass(frozen=True)
class Size:
    """How large inputs are: `full` to measure, `tiny` to see that every benchmark still works."""

    name: str

    def __call__(self, full: int, tiny: int) -> int:
        return full if self.name == "full" else tiny


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("bench")
    group.addoption("--bench-size", choices=("full", "tiny"), default="full", help="inputs to measure, or to try")
    group.addoption("--bench-seconds", type=float, default=3.0, help="time for the rounds of one benchmark")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_LOAD] = machine.Load()


@pytest.fixture
def size(request: pytest.FixtureRequest) -> Size:
    return Size(request.config.getoption("--bench-size"))


@pytest.fixture
def contest(benchmark: Any, size: Size, request: pytest.FixtureRequest) -> Iterator[Contest]:
    """Where a benchmark enters its contenders; the number of threads is put back afterwards."""
    seconds = request.config.getoption("--bench-seconds") if size.name == "full" else 0.0
    with threads_kept():
        yield Contest(benchmark, seconds=seconds)


@pytest.hookimpl(tryfirst=True)  # before the one that publishes the host name
def pytest_benchmark_generate_machine_info(config: pytest.Config) -> dict[str, object]:
    load = config.stash[_LOAD].of_others()
    return {**machine.describe(), "size": config.getoption("--bench-size"), "load_of_others": load}


def pytest_benchmark_update_json(output_json: dict[str, Any]) -> None:
    """Leaves out what `extra_info` says already, because runs are committed."""
    for benchmark in output_json["benchmarks"]:
        del benchmark["stats"]["data"], benchmark["options"]


@pytest.hookimpl(tryfirst=True)  # before the one that publishes the host name
def pytest_benchmark_generate_commit_info(config: pytest.Config) -> dict[str, object]:
    return machine.commit()
