"""docs/reliability.md has the tables that ci/limits/page.py writes, and nothing in their places but what it writes."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "ci" / "limits"))
import page

TEXT = page.PAGE.read_text()
FOUND = {
    "kill_points": {"rows": [{"command": "c", "calls": 1, "kills": 2, "failures": 3, "violations": 0}]},
    "damage": {
        "rows": [
            dict.fromkeys(("cases", "named_errors", "correct", "other_valid", "wrong", "crashes", "hangs"), 1000)
            | {"subject": "s", "longest_seconds": 0.0123, "extra_memory_bytes": 3 << 20}
        ]
    },
    "hostile": {
        part: [{"case": part, "refused_as": "E", "seconds": 0.0123, "extra_memory_bytes": 1 << 20}]
        for part in ("bounded", "within_limits")
    },
    "streaming": {
        "rows": [
            {
                "case": "c", "bundle_bytes": 5 << 30, "ceiling_bytes": 512 << 20, "peak_bytes": 500 << 20,
                "over_ceiling": -0.0234, "seconds": 1.0, "in_memory_peak_bytes": 9 << 30, "in_memory_seconds": 2.0,
                "same_result": False, "warnings": ["max_memory"],
            }
        ]
    },
}  # fmt: skip
FOUND["streaming_forms"] = FOUND["streaming"]


def test_the_page_has_one_place_for_each_table() -> None:
    assert re.findall(r"<!-- (\w+) -->", TEXT) == [word for name in page.TABLES for word in (name, "end")]


def test_what_is_in_the_places_is_a_table_of_measured_rows() -> None:
    for name, (file, render) in page.TABLES.items():
        inside = TEXT.partition(page.MARKS.format(name))[2].partition(page.END)[0].strip().splitlines()
        head = render(FOUND[file.removesuffix(".json")]).splitlines()[:2]
        assert inside[:2] in ([], head), f"another head of {name}: run the script and ci/limits/page.py"
        assert len(inside) != 2, f"{name} has no rows"
        assert all(line.count(" | ") == head[0].count(" | ") for line in inside)


def test_a_table_is_filled_without_the_others(tmp_path: Path) -> None:
    for file, found in FOUND.items():
        (tmp_path / f"{file}.json").write_text(json.dumps(found))
        filled = page.filled(TEXT, tmp_path)
        changed = {name for name, (source, _) in page.TABLES.items() if source == f"{file}.json"}
        for name, (_, render) in page.TABLES.items():
            start = page.MARKS.format(name)
            before, after = (text.partition(start)[2].partition(page.END)[0] for text in (TEXT, filled))
            assert after == (f"\n{render(found)}\n" if name in changed else before)
        assert page.filled(filled, tmp_path) == filled
        (tmp_path / f"{file}.json").unlink()


def test_numbers_are_shown_with_their_units() -> None:
    assert "| 12 ms | 3.0 MiB |" in page.damage(FOUND["damage"])
    assert "| bounded | E | 12.3 ms | 1.0 MiB |" in page.hostile(FOUND["hostile"])
    assert "| 5,120 MiB | 512 MiB | 500 MiB (-2.3%) |" in page.streaming(FOUND["streaming"])
    assert "| **no** | yes |" in page.streaming(FOUND["streaming"])
