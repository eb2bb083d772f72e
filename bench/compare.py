"""`python -m bench compare A.json B.json --fail-above 1.10`: what got slower, larger or hungrier from A to B.

Machines are noisy and other work slows them, so times are judged *normalised*: other people's software takes turns with
ours, and how much slower that got is divided out. A benchmark without a yardstick of its own takes the middle one of
the whole run. Raw ratios stand beside. Sizes and memory are judged as they are.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.machine import IDENTITY
from bench.results import Case, NotARun, Run, read

_SMALL_MEMORY = 1 << 20  # bytes; below it, growth is the allocator's, not the operation's


@dataclass(frozen=True)
class Change:
    """What became of one quantity, as ratios B/A; above 1 is worse."""

    case: str
    contender: str
    quantity: str
    raw: float
    normalised: float


class NotComparable(ValueError):
    """The two runs say nothing about each other."""


def main(arguments: Sequence[str]) -> int:
    """0: nothing above the limit; 1: something is, or B lacks a benchmark of A; 2: the files cannot be compared."""
    parser = argparse.ArgumentParser(prog="python -m bench compare", description=__doc__)
    parser.add_argument("a", type=Path, help="the earlier run")
    parser.add_argument("b", type=Path, help="the later run")
    parser.add_argument("--fail-above", type=float, default=1.10, help="ratio B/A (default %(default)s)")
    parser.add_argument("--other-machine", action="store_true", help="compare although the machines differ")
    parser.add_argument("--partial", action="store_true", help="B may lack benchmarks of A")
    options = parser.parse_args(arguments)
    try:
        a, b = read(options.a), read(options.b)
        refuse_different_machines(a, b, allowed=options.other_machine)
        found = list(changes(a, b))
    except (NotARun, NotComparable, OSError) as error:
        print(f"python -m bench compare: {error}", file=sys.stderr)
        return 2
    missing = [] if options.partial else gone(a, b)
    worse = [change for change in found if change.normalised > options.fail_above]
    print(report(found, worse, options.fail_above))
    for name in missing:
        print(f"missing in {options.b}: {name}")
    return 1 if worse or missing else 0


def refuse_different_machines(a: Run, b: Run, *, allowed: bool) -> None:
    """
    Raises:
        NotComparable: the machines or the sizes of the inputs differ.
    """
    if a.machine.get("size") != b.machine.get("size"):
        raise NotComparable(f"the inputs differ in size: {a.machine.get('size')} and {b.machine.get('size')}")
    different = [name for name in IDENTITY if a.machine.get(name) != b.machine.get(name)]
    if different and not allowed:
        said = "; ".join(f"{name}: {a.machine.get(name)} and {b.machine.get(name)}" for name in different)
        raise NotComparable(f"the machines differ ({said}). --other-machine compares all the same")


def changes(a: Run, b: Run) -> Iterator[Change]:
    """Every quantity of ours that both runs have.

    Raises:
        NotComparable: they have no benchmark in common.
    """
    common = [name for name in a.cases if name in b.cases]
    if not common:
        raise NotComparable("the runs have no benchmark in common")
    slowdowns = {name: _yardstick(a.cases[name], b.cases[name]) for name in common}
    of_the_run = median([one for one in slowdowns.values() if one is not None] or [1.0])
    for name in common:
        own = slowdowns[name]
        yield from _case_changes(a.cases[name], b.cases[name], of_the_run if own is None else own)


def gone(a: Run, b: Run) -> list[str]:
    """Contenders of ours that A measured and B did not."""
    return [
        f"{name}: {entry.label}"
        for name, case in a.cases.items()
        for entry in case.entries
        if entry.ours and (name not in b.cases or b.cases[name].find(entry.name, entry.threads) is None)
    ]


def _yardstick(a: Case, b: Case) -> float | None:
    """How much slower other people's software got from A to B: the middle one of them."""
    pairs = [(one, b.find(one.name, one.threads)) for one in a.rivals]
    ratios = [other.median_seconds / one.median_seconds for one, other in pairs if other is not None]
    return median(ratios) if ratios else None


def _case_changes(a: Case, b: Case, slowdown: float) -> Iterator[Change]:
    for one in a.entries:
        other = b.find(one.name, one.threads)
        if not one.ours or other is None:
            continue
        raw = other.median_seconds / one.median_seconds
        yield Change(a.name, one.label, "time", raw, raw / slowdown)
        if one.stored_bytes and other.stored_bytes is not None:
            ratio = other.stored_bytes / one.stored_bytes
            yield Change(a.name, one.label, "stored size", ratio, ratio)
        if one.peak_extra_bytes is not None and other.peak_extra_bytes is not None:
            ratio = max(other.peak_extra_bytes, _SMALL_MEMORY) / max(one.peak_extra_bytes, _SMALL_MEMORY)
            yield Change(a.name, one.label, "memory", ratio, ratio)


def report(found: Sequence[Change], worse: Sequence[Change], limit: float) -> str:
    """What is above the limit, the worst first; else the worst of all."""
    title = f"{len(worse)} of {len(found)} quantities are more than {limit:g} times what they were"
    shown = sorted(worse or found, key=lambda one: one.normalised, reverse=True)
    rows = [
        f"{one.normalised:>10.3f} {one.raw:>8.3f}  {one.quantity:<12} {one.case}: {one.contender}"
        for one in (shown if worse else shown[:5])
    ]
    return "\n".join([title if worse else f"{title}; the worst:", f"{'normalised':>10} {'raw':>8}", *rows])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
