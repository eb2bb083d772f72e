"""`python -m bench table RUN.json ... [--write PAGE]`: the tables of docs/performance.md, made from runs."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.bars import Outcome, judge
from bench.results import Case, Entry, NotARun, Run, read

MARKER = "<!-- bench: {name} -->"
END = "<!-- bench: end -->"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench table", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="what `python -m bench run --output` wrote")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the tables between the page's markers")
    options = parser.parse_args(arguments)
    try:
        runs = [read(path) for path in options.runs]
        if options.write is None:
            print("\n\n".join(blocks(runs).values()))
        else:
            options.write.write_text(fill(options.write.read_text(), blocks(runs)))
    except (NotARun, OSError) as error:
        print(f"python -m bench table: {error}", file=sys.stderr)
        return 2
    return 0


def fill(page: str, filling: dict[str, str]) -> str:
    """The page with each block's text between its marker and the next end marker.

    Raises:
        NotARun: the page has no such markers.
    """
    for name, text in filling.items():
        start = MARKER.format(name=name)
        pattern = re.compile(re.escape(start) + ".*?" + re.escape(END), re.DOTALL)
        if pattern.search(page) is None:
            raise NotARun(f"the page has no lines '{start}' and '{END}'")
        page = pattern.sub(lambda _, start=start, text=text: f"{start}\n{text}\n{END}", page, count=1)  # type: ignore[misc]
    return page


def blocks(runs: Sequence[Run]) -> dict[str, str]:
    """Name of a marker → the text that belongs there."""
    return {
        "machine": "\n\n".join(map(machine, runs)) or "Nothing has been measured yet.",
        "bars": bar_table(judge(runs)),
        "all": "\n\n".join(case_table(case) for run in runs for case in run.cases.values()),
    }


def as_text(run: Run) -> str:
    """For the terminal: what ran, and the bars."""
    return f"\n{machine(run)}\n\n{bar_table([one for one in judge([run]) if one.one_thread is not None])}"


def machine(run: Run) -> str:
    """What the numbers were measured on, and with."""
    about = run.machine
    commit = f"{(run.commit['id'] or 'unknown')[:12]}{' with uncommitted changes' if run.commit['dirty'] else ''}"
    libraries = ", ".join(f"{name} {version}" for name, version in about["libraries"].items() if version)
    lines = [
        f"Measured {run.measured_at[:10]}, commit {commit}",
        f"{about['gpu'] if 'gpu' in about else _cpu(about)}; {about['system']}",
        f"{about['compiler']}; Python {about['python']}; {libraries}",
    ]
    if "load_of_others" in about:
        load = about["load_of_others"]
        busy = "an unknown share" if load is None else f"{100 * load:.0f} %"
        lines.append(f"Other processes took {busy} of the processors' time meanwhile")
    return "\n".join(f"- {line}" for line in lines)


def _cpu(about: Mapping[str, Any]) -> str:
    caches = ", ".join(f"{name} {size}" for name, size in about["caches"].items())
    kind = "cores of a virtual machine" if about["virtual"] else "cores"
    memory = f"{about['memory_bytes'] / 2**30:.0f} GiB"
    return f"{about['cpu']}, {about['cores']} {kind}, instruction set {about['instruction_set']}, {caches}, {memory}"


def bar_table(outcomes: Iterable[Outcome]) -> str:
    rows = [["what", "at least", "1 thread", "2 threads", ""]]
    for one in outcomes:
        bar = one.bar
        limit = f"{'at most ' if bar.at_most else ''}{bar.limit:g} {bar.unit}"
        limit += f" (goal {bar.goal:g})" if bar.goal is not None else ""
        rows.append([bar.what, limit, number(one.one_thread), number(one.two_threads), one.verdict])
    return markdown(rows)


def case_table(case: Case) -> str:
    """Every contender of one benchmark; speeds relative to the first, which is the package's own choice."""
    first = case.entries[0]
    stored = any(entry.stored_bytes is not None for entry in case.entries)
    rows = [["", "speed", "relative", "extra memory", *(["stored"] if stored else [])]]
    for entry in case.entries:
        memory = "–" if entry.peak_extra_bytes is None else f"{entry.peak_extra_bytes / 2**20:.1f} MiB"
        size = [_stored(entry)] if stored else []
        rows.append([entry.label, _speed(entry, case.unit), number(entry.rate / first.rate), memory, *size])
    return f"**{case.name}** ({case.given})\n\n{markdown(rows)}"


def _speed(entry: Entry, unit: str) -> str:
    if unit == "call":
        return f"{number(entry.median_seconds * 1000)} ms"
    return f"{number(entry.rate / 1e9)} {'GB/s' if unit == 'B' else f'G {unit}s/s'}"


def _stored(entry: Entry) -> str:
    """Percent of the input; the unit of cases that store is bytes."""
    return "–" if entry.stored_bytes is None else f"{100 * entry.stored_bytes / entry.items:.2f} %"


def number(value: float | None) -> str:
    """Three digits that mean something."""
    if value is None:
        return "–"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table with columns of one width, so that it reads well unrendered too."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
