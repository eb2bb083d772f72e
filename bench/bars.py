"""How fast is fast enough: every bar, and how its number comes out of what a run measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.results import Case, Run, find

# The number of a bar for so many threads, or None where what it needs was not measured.
Value = Callable[[Case, int], float | None]


@dataclass(frozen=True)
class Bar:
    """One promise.

    Attributes:
        what: in words, for the table.
        case: the benchmark that measures it.
        limit: the number to reach, in `unit`.
        value: takes the number out of the case.
        at_most: the number must not be above `limit`, instead of not below it.
        goal: a further number to aim at, which is no promise.
    """

    what: str
    case: str
    limit: float
    unit: str
    value: Value
    at_most: bool = False
    goal: float | None = None

    def reached(self, number: float) -> bool:
        return number <= self.limit if self.at_most else number >= self.limit


@dataclass(frozen=True)
class Outcome:
    """A bar with what was measured; None is "not measured"."""

    bar: Bar
    one_thread: float | None
    two_threads: float | None

    @property
    def verdict(self) -> str:
        if self.one_thread is None:
            return "not yet measured"
        return "reached" if self.bar.reached(self.one_thread) else "not reached"


def rate(scale: float, name: str = "cpp") -> Value:
    """Items per second of a contender, in units of `scale`."""

    def value(case: Case, threads: int) -> float | None:
        entry = case.find(name, threads)
        return None if entry is None else entry.rate / scale

    return value


def times(*others: str, name: str = "cpp") -> Value:
    """How many times as fast as the fastest of `others`, each on one thread."""

    def value(case: Case, threads: int) -> float | None:
        entry = case.find(name, threads)
        found = [other for other in map(case.find, others) if other is not None]
        return None if entry is None or not found else entry.rate / max(other.rate for other in found)

    return value


def share_of_reading(case: Case, threads: int) -> float | None:
    """Percent of the rate of the fastest reader, on one thread, of the same array."""
    entry = case.find("cpp", threads)
    readers = [other.rate for other in case.rivals if other.name.startswith("read: ")]
    return None if entry is None or not readers else 100 * entry.rate / max(readers)


def share_of(other: str) -> Value:
    """Percent of another's rate."""

    def value(case: Case, threads: int) -> float | None:
        entry, reader = case.find("cpp", threads), case.find(other)
        return None if entry is None or reader is None else 100 * entry.rate / reader.rate

    return value


def share_of_copying(name: str) -> Value:
    """Percent of the rate at which the GPU copies memory, read and written bytes counted."""

    def value(case: Case, threads: int) -> float | None:
        entry, copy = case.find(name, threads), case.find("copy")
        return None if entry is None or copy is None else 100 * entry.rate / copy.rate

    return value


def milliseconds(case: Case, threads: int) -> float | None:
    entry = case.find("cpp", threads)
    return None if entry is None else 1000 * entry.median_seconds


def size_against(other: str) -> Value:
    """Our stored size as percent of another's; the smallest of our models."""

    def value(case: Case, threads: int) -> float | None:
        rival = case.find(other)
        sizes = [one.stored_bytes for one in case.entries if one.ours and one.stored_bytes is not None]
        if threads != 1 or rival is None or rival.stored_bytes is None or not sizes:
            return None
        return 100 * min(sizes) / rival.stored_bytes

    return value


_NUMPY: Final = ("plain NumPy", "numpy")
_ZSTD: Final = "zstd 19, byte planes"


def _windows(case: str) -> list[Bar]:
    return [
        Bar(f"{case}", case, 1.3, "GB/s", rate(1e9)),
        Bar(f"{case}: against vectorised NumPy", case, 10, "×", times(*_NUMPY)),
        Bar(f"{case}: against a plain numba loop", case, 2.5, "×", times("plain numba")),
        Bar(f"{case}: how much faster than the numba fallback", case, 3, "×", times("numba"), at_most=True),
    ]


def _coder(way: str, limit: float, speed: float, goal: float | None = None) -> list[Bar]:
    """constriction decodes six times slower than it encodes, so its multiple alone would ask little of a decoder;
    the bar in GB/s is the same multiple of its encoder's speed on the machine that the bar was set on."""
    case = f"arithmetic_{way}"
    return [
        Bar(f"arithmetic {way}: against constriction", case, limit, "×", times("constriction")),
        Bar(f"arithmetic {way}", case, speed, "GB/s", rate(1e9), goal=goal),
    ]


CPU_BARS: Final = (
    *_windows("entropy_windows, bytes"),
    *_windows("entropy_windows, exponent bytes"),
    Bar("entropy_windows, 16 symbols", "entropy_windows, 16 symbols", 2.5, "G symbols/s", rate(1e9)),
    Bar("fused quantize + codelength: share of np.sum's rate", "codelength, fused", 60, "%", share_of("read: np.sum")),
    Bar(
        "fused quantize + codelength: share of the fastest reader's rate",
        "codelength, fused",
        60,
        "%",
        share_of_reading,
    ),
    *(bar for way in ("encode", "decode") for bar in _coder(f"{way}, static", 2, 0.48, goal=1.0)),
    *(bar for way in ("encode", "decode") for bar in _coder(f"{way}, adaptive", 1.3, 0.2)),
    *(
        Bar(f"{case}: of zstd 19 on byte planes", case, 100, "%", size_against(_ZSTD), at_most=True)
        for case in (
            "stored size, bfloat16, recorded",
            "stored size, bfloat16, synthetic",
            "stored size, float32, recorded",
            "stored size, float32, synthetic",
        )
    ),
    *(
        Bar(f"one call over 437 tiny sites: {name}", f"437 sites, {name}", 1, "ms", milliseconds, at_most=True)
        for name in ("entropy_windows", "codelength")
    ),
)

# Measured on a GPU or absent: no number is ever carried over or estimated.
GPU_BARS: Final = (
    Bar("GPU: codelength, fused: share of copying", "gpu: codelength, fused", 70, "%", share_of_copying("cuda")),
    Bar("GPU: entropy_windows: share of copying", "gpu: entropy_windows", 15, "%", share_of_copying("cuda")),
    Bar("GPU: patch_rows: share of copying", "gpu: patch_rows", 80, "%", share_of_copying("triton")),
    Bar("GPU: arithmetic encode, static", "gpu: arithmetic_encode, static", 100, "GB/s", rate(1e9, "cuda")),
)


def judge(runs: Iterable[Run], bars: Sequence[Bar] = (*CPU_BARS, *GPU_BARS)) -> list[Outcome]:
    """Every bar with its numbers from the first run that measured it."""
    known = list(runs)
    outcomes = []
    for bar in bars:
        case = find(known, bar.case)
        outcomes.append(Outcome(bar, *((None, None) if case is None else (bar.value(case, 1), bar.value(case, 2)))))
    return outcomes
