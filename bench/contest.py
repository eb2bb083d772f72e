"""One benchmark: contenders do the same work, take turns, and are timed only after every result was checked."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.memory import peak_extra_bytes
from bench.threads import use_threads
from model_forensics import ops

CPU_BACKENDS = ("cpp", "numba", "numpy")
FEWEST_ROUNDS, MOST_ROUNDS = 5, 40


class WrongResult(AssertionError):
    """A contender's result is not what it should be; its benchmark reports nothing."""


@dataclass(frozen=True)
class Contender:
    """One way to do the work.

    Attributes:
        name: backend of ours, or the other library.
        run: does the work once and returns its result.
        check: raises AssertionError if that result is wrong.
        items: how many of the benchmark's units one run goes through.
        ours: False for other people's software, the yardstick of `bench.compare`.
        threads: threads the operations of this package may use.
        stored_bytes: for an encoder, the size of its result.
    """

    name: str
    run: Callable[[], Any]
    check: Callable[[Any], None]
    items: int
    ours: bool = False
    threads: int = 1
    stored_bytes: Callable[[Any], int] | None = None

    @property
    def label(self) -> str:
        return self.name if self.threads == 1 else f"{self.name}, {self.threads} threads"


def ours(
    operation: str,
    run: Callable[[str], Any],
    check: Callable[[Any], None],
    items: int,
    *,
    backends: Sequence[str] = CPU_BACKENDS,
    threads: Sequence[int] = (1, 2),
    stored_bytes: Callable[[Any], int] | None = None,
) -> list[Contender]:
    """This package's backends that can serve here; those with threads once for each number that the machine has."""
    state = ops.backends()[operation]
    cores = len(os.sched_getaffinity(0))
    return [
        Contender(backend, lambda b=backend: run(b), check, items, True, number, stored_bytes)  # type: ignore[misc]
        for backend in backends
        if state[backend] == "available"
        for number in (threads if backend == "cpp" else (1,))
        if number <= cores
    ]


def equal_to(reference: npt.ArrayLike) -> Callable[[Any], None]:
    """A check for the same values in the same dtype."""
    expected = np.asarray(reference)

    def check(result: Any) -> None:
        assert np.asarray(result).dtype == expected.dtype, f"dtype {np.asarray(result).dtype}, not {expected.dtype}"
        np.testing.assert_array_equal(result, expected)

    return check


def close_to(reference: npt.ArrayLike, within: float) -> Callable[[Any], None]:
    """A check for other libraries, which round differently."""
    return lambda result: np.testing.assert_allclose(result, reference, rtol=0, atol=within)


def ours_on(
    x: Any, operation: str, run: Callable[[str, Any], Any], items: int, backends: Sequence[str]
) -> list[Contender]:
    """`ours` on an input of their own, against what the reference makes of it; `run` takes backend and input."""
    return ours(operation, lambda backend: run(backend, x), equal_to(run("numpy", x)), items, backends=backends)


class Contest:
    """Runs one benchmark on pytest-benchmark's fixture, and leaves what was measured in its `extra_info`."""

    def __init__(self, benchmark: Any, *, seconds: float) -> None:
        """
        Args:
            benchmark: pytest-benchmark's fixture; it times the first contender.
            seconds: how long all rounds together should take, but never fewer than `FEWEST_ROUNDS`. 0: two rounds.
        """
        self._benchmark = benchmark
        self._seconds = seconds

    def run(
        self, name: str, *, unit: str, given: str, contenders: Sequence[Contender], rounds: int | None = None
    ) -> None:
        """Check every contender, then time them in turns.

        Args:
            name: the benchmark's name in tables and bars.
            unit: what `items` counts: "B" for bytes, else a word such as "symbol" or "call".
            given: the input, in words.
            contenders: the first, which must be ours, is the one that pytest-benchmark times.
            rounds: how many, instead of as many as fit into the time.

        Raises:
            WrongResult: naming the contender, before anything is timed.
        """
        if not contenders or not contenders[0].ours:
            raise ValueError(f"'{name}' has no contender of ours in the first place")
        sizes = [self._check(name, contender) for contender in contenders]
        memory, estimates = zip(*(self._first_run(contender) for contender in contenders), strict=True)
        seconds = self._take_turns(contenders, rounds or self._fitting(sum(estimates)))
        self._benchmark.extra_info |= {
            "case": name,
            "unit": unit,
            "given": given,
            "contenders": [
                {
                    "name": contender.name,
                    "threads": contender.threads,
                    "ours": contender.ours,
                    "items": contender.items,
                    "seconds": [float(f"{one:.4g}") for one in times],
                    "median_seconds": median(times),
                    "peak_extra_bytes": extra,
                    "stored_bytes": stored,
                }
                for contender, times, extra, stored in zip(contenders, seconds, memory, sizes, strict=True)
            ],
        }

    def _fitting(self, one_round: float) -> int:
        if self._seconds == 0:
            return 2
        return min(MOST_ROUNDS, max(FEWEST_ROUNDS, int(self._seconds / one_round)))

    def _check(self, name: str, contender: Contender) -> int | None:
        """The first call of all, so it also compiles and loads whatever is compiled and loaded only once."""
        use_threads(contender.threads)
        result = contender.run()
        try:
            contender.check(result)
        except AssertionError as error:
            raise WrongResult(f"{name}: the result of {contender.label} is wrong, nothing is timed\n{error}") from error
        return None if contender.stored_bytes is None else contender.stored_bytes(result)

    def _first_run(self, contender: Contender) -> tuple[int | None, float]:
        use_threads(contender.threads)
        start = time.perf_counter()
        extra = peak_extra_bytes(contender.run)
        return extra, time.perf_counter() - start

    def _take_turns(self, contenders: Sequence[Contender], rounds: int) -> list[list[float]]:
        """Each round runs every contender once; pytest-benchmark times the first, its set-up the others.

        The others change their order from round to round, so that none always follows the same one.
        """
        first, *others = contenders
        times: list[list[float]] = [[] for _ in others]
        number = count()

        def the_others() -> None:
            order = list(range(len(others)))
            for index in order if next(number) % 2 else reversed(order):
                times[index].append(_timed(others[index]))
            use_threads(first.threads)

        self._benchmark.pedantic(first.run, setup=the_others, rounds=rounds, iterations=1)
        return [list(self._benchmark.stats.stats.data), *times]


def _timed(contender: Contender) -> float:
    use_threads(contender.threads)
    enabled = gc.isenabled()
    gc.disable()  # as pytest-benchmark does with --benchmark-disable-gc
    try:
        start = time.perf_counter()
        result = contender.run()
        elapsed = time.perf_counter() - start
    finally:
        if enabled:
            gc.enable()
    del result
    return elapsed
