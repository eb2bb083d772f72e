"""A run as its JSON tells it: cases, and in each the contenders with what was measured of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class NotARun(ValueError):
    """The file is not what `python -m bench run --output` writes."""


@dataclass(frozen=True)
class Entry:
    """What was measured of one contender; fields as in `bench.contest.Contender`."""

    name: str
    threads: int
    ours: bool
    items: int
    median_seconds: float
    peak_extra_bytes: int | None
    stored_bytes: int | None

    @property
    def rate(self) -> float:
        """Items per second."""
        return self.items / self.median_seconds

    @property
    def label(self) -> str:
        return self.name if self.threads == 1 else f"{self.name}, {self.threads} threads"


@dataclass(frozen=True)
class Case:
    """One benchmark."""

    name: str
    unit: str
    given: str
    entries: tuple[Entry, ...]

    def find(self, name: str, threads: int = 1) -> Entry | None:
        return next((entry for entry in self.entries if (entry.name, entry.threads) == (name, threads)), None)

    @property
    def rivals(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if not entry.ours)


@dataclass(frozen=True)
class Run:
    """One run of the benchmarks on one machine."""

    machine: Mapping[str, Any]
    commit: Mapping[str, Any]
    measured_at: str
    cases: Mapping[str, Case]


def read(path: Path) -> Run:
    """The run in a JSON file.

    Raises:
        NotARun: it is not such a file.
        OSError: it cannot be read.
    """
    try:
        document = json.loads(path.read_text())
        cases = [_case(benchmark["extra_info"]) for benchmark in document["benchmarks"]]
        return Run(
            document["machine_info"], document["commit_info"], document["datetime"], {case.name: case for case in cases}
        )
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
        raise NotARun(f"{path} is not a run's JSON ({type(error).__name__}: {error})") from error


def _case(info: Mapping[str, Any]) -> Case:
    fields = Entry.__dataclass_fields__
    entries = tuple(Entry(**{name: one[name] for name in fields}) for one in info["contenders"])
    return Case(info["case"], info["unit"], info["given"], entries)


def find(runs: Iterable[Run], case: str) -> Case | None:
    """The case in the first run that has it."""
    return next((run.cases[case] for run in runs if case in run.cases), None)
