"""Writes the tables of docs/reliability.md from the files that the other scripts wrote.

    python ci/limits/page.py DIRECTORY

DIRECTORY holds what the scripts wrote with `--output`: kill_points.json, damage.json, hostile.json, streaming.json
and streaming_forms.json (with `--stored compressed encrypted`). A table whose file is not there stays as it is.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
MIB = 1 << 20
MARKS = "<!-- {} -->"
END = "<!-- end -->"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def kill_points(found: dict[str, Any]) -> str:
    rows = [(row["command"], row["calls"], row["kills"], row["failures"], row["violations"]) for row in found["rows"]]
    total = ("together", "", *(sum(row[column] for row in rows) for column in (2, 3, 4)))
    return table(("command", "calls that change files", "kills", "failures", "violations"), [*rows, total])


def damage(found: dict[str, Any]) -> str:
    rows = [
        (
            row["subject"], f"{row['cases']:,}", f"{row['named_errors']:,}", f"{row['correct']:,}",
            f"{row['other_valid']:,}", row["wrong"], row["crashes"], row["hangs"],
            f"{1000 * row['longest_seconds']:.0f} ms", f"{row['extra_memory_bytes'] / MIB:.1f} MiB",
        )
        for row in found["rows"]
    ]  # fmt: skip
    head = ("", "cases", "named errors", "correct", "other, valid", "wrong", "crashes", "hangs", "longest",
            "extra memory")  # fmt: skip
    return table(head, rows)


def hostile(found: dict[str, Any]) -> str:
    return refusals("refused within 100 ms", found["bounded"])


def within_limits(found: dict[str, Any]) -> str:
    return refusals("within the limits of the format", found["within_limits"])


def refusals(title: str, rows: Sequence[dict[str, Any]]) -> str:
    shown = [
        (
            row["case"],
            row["refused_as"],
            f"{1000 * row['seconds']:.1f} ms",
            f"{row['extra_memory_bytes'] / MIB:.1f} MiB",
        )
        for row in rows
    ]
    return table((title, "as", "processor time", "extra memory"), shown)


def streaming(found: dict[str, Any]) -> str:
    rows = [
        (
            row["case"], f"{row['bundle_bytes'] / MIB:,.0f} MiB", f"{row['ceiling_bytes'] / MIB:,.0f} MiB",
            f"{row['peak_bytes'] / MIB:,.0f} MiB ({row['over_ceiling']:+.1%})", f"{row['seconds']:.0f} s",
            f"{row['in_memory_peak_bytes'] / MIB:,.0f} MiB", f"{row['in_memory_seconds']:.0f} s",
            "yes" if row["same_result"] else "**no**", "yes" if row["warnings"] else "no",
        )
        for row in found["rows"]
    ]  # fmt: skip
    head = ("", "bundle", "ceiling", "peak", "time", "peak in memory", "time in memory", "same result",
            "warned")  # fmt: skip
    return table(head, rows)


TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "kill_points": ("kill_points.json", kill_points),
    "damage": ("damage.json", damage),
    "hostile": ("hostile.json", hostile),
    "within_limits": ("hostile.json", within_limits),
    "streaming": ("streaming.json", streaming),
    "streaming_forms": ("streaming_forms.json", streaming),
}


def filled(page: str, directory: Path) -> str:
    """The page with the tables of those files that are in the directory."""
    for name, (file, render) in TABLES.items():
        if (directory / file).exists():
            page = put(page, name, render(json.loads((directory / file).read_text())))
    return page


def put(page: str, name: str, text: str) -> str:
    start, end = MARKS.format(name), END
    before, found, rest = page.partition(start)
    assert found, f"the page has no place for {name}"
    return f"{before}{start}\n{text}\n{end}{rest.partition(end)[2]}"


def main() -> None:
    PAGE.write_text(filled(PAGE.read_text(), Path(sys.argv[1])))


if __name__ == "__main__":
    main()
