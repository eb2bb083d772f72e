"""Writes the tables of docs/reliability.md from the files that the other scripts wrote.

python ci/limits/page.py DIRECTORY        # kill_points.json, damage.json, streaming.json, those that are there
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
MIB = 1 << 20


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
            row["bundle"], f"{row['cases']:,}", f"{row['named_errors']:,}", f"{row['correct']:,}",
            row["other_valid_manifests"], row["wrong"], row["crashes"], f"{1000 * row['longest_seconds']:.0f} ms",
            f"{row['extra_memory_bytes'] / MIB:.1f} MiB",
        )
        for row in found["damage"]
    ]  # fmt: skip
    head = ("bundle", "cases", "named errors", "read correctly, or without digests", "another valid manifest",
            "wrong", "crashes", "longest", "extra memory")  # fmt: skip
    return table(head, rows)


def hostile(found: dict[str, Any]) -> str:
    rows = [
        (
            row["case"],
            row["refused_as"],
            f"{1000 * row['seconds']:.1f} ms",
            f"{row['extra_memory_bytes'] / MIB:.0f} MiB",
        )
        for row in found["hostile"]
    ]
    return table(("bundle", "refused as", "within", "extra memory"), rows)


def streaming(found: dict[str, Any]) -> str:
    rows = [
        (
            row["case"], f"{row['bundle_bytes'] / MIB:,.0f} MiB", f"{row['ceiling_bytes'] / MIB:,.0f} MiB",
            f"{row['peak_bytes'] / MIB:,.0f} MiB ({row['over_ceiling']:+.1%})", f"{row['seconds']:.0f} s",
            f"{row['in_memory_peak_bytes'] / MIB:,.0f} MiB", f"{row['in_memory_seconds']:.0f} s",
            "yes" if row["same_result"] else "**no**",
        )
        for row in found["rows"]
    ]  # fmt: skip
    head = ("", "bundle", "ceiling", "peak", "time", "peak in memory", "time in memory", "same result")
    return table(head, rows)


TABLES: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "kill_points": ("kill_points.json", kill_points),
    "damage": ("damage.json", damage),
    "hostile": ("damage.json", hostile),
    "streaming": ("streaming.json", streaming),
}


def main() -> None:
    directory = Path(sys.argv[1])
    page = PAGE.read_text()
    for name, (file, render) in TABLES.items():
        if (directory / file).exists():
            text = render(json.loads((directory / file).read_text()))
            marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
            page = marks.sub(lambda found, text=text: f"{found[1]}{text}\n{found[2]}", page)  # type: ignore[misc]
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
