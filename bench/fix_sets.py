"""What the search for fix sets finds and what it costs beside brute force: `python -m bench fix_sets`.

Planted faults with known truth tables (`bench/planted`), run through the executor that real models go through. Counts
of sets do not depend on the machine. Writes the table of docs/fix-sets.md.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from bench.planted.contest import STRATEGIES, attempt, executor_of
from bench.planted.gates import plant
from bench.planted.worlds import worlds

PAGE = Path(__file__).parents[1] / "docs" / "fix-sets.md"
BEGIN, END = "<!-- bench: fix_sets -->", "<!-- bench: end -->"
BRUTE_FORCE = "brute force"


@dataclass
class Tally:
    """Of one strategy on one kind of world."""

    faults: int = 0
    optimal: int = 0
    sets_run: list[int] = field(default_factory=list)

    def add(self, optimal: bool, sets_run: int) -> None:
        self.faults += 1
        self.optimal += optimal
        self.sets_run.append(sets_run)

    @property
    def cells(self) -> list[str]:
        mean = sum(self.sets_run) / len(self.sets_run)
        return [f"{self.optimal} of {self.faults}", f"{mean:,.0f}", f"{max(self.sets_run):,}"]


def measure(count: int) -> dict[tuple[str, bool], Tally]:
    """Per strategy and whether the world is graded."""
    tallies: dict[tuple[str, bool], Tally] = defaultdict(Tally)
    for world in worlds(count):
        optima, looked_at = world.optima()
        tallies[BRUTE_FORCE, world.graded].add(True, looked_at)
        executor = executor_of(plant(world))
        for name, settings in STRATEGIES.items():
            tried = attempt(executor, settings, optima)
            tallies[name, world.graded].add(tried.optimal, tried.sets_run)
    return tallies


def render(tallies: dict[tuple[str, bool], Tally]) -> str:
    """A table in Markdown."""
    head = "| search | graded: smallest | sets run, mean | most | flat: smallest | sets run, mean | most |"
    lines = [head, "|---" * 7 + "|"]
    for name in (*STRATEGIES, BRUTE_FORCE):
        cells = [*tallies[name, True].cells, *tallies[name, False].cells]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench fix_sets", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--worlds", type=int, default=200, help="half of them graded, half flat; at least 2")
    parser.add_argument("--write", type=Path, nargs="?", const=PAGE, help="put the table into this page")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    text = render(measure(max(2, options.worlds)))
    print(text)
    if options.write:
        before, rest = options.write.read_text().split(BEGIN)
        options.write.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
