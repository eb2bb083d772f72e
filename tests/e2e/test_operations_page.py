"""docs/operations.md from an empty directory: every command runs and prints what the page shows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "ci"))

import operations  # noqa: E402


@pytest.mark.slow
def test_the_page_shows_what_is_printed() -> None:
    ran: list[str] = []

    def compare(step: operations.Step, output: str) -> None:
        ran.append(step.command)
        assert operations.comparable(output) == operations.comparable(step.shown), step.command

    operations.run_page(operations.PAGE.read_text(encoding="utf-8"), compare)
    told = ["make_case", "triage", "analyze", "validate-fix", "batch", "stats", "compress-bundles", "rekey"]
    first = [next(place for place, command in enumerate(ran) if name in command) for name in told]
    assert first == sorted(first)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("took 1.25 s on 2026-01-02 03:04", "took 9.5 s on 2027-11-12 13:14", True),
        (" a    3 ", " a  3", True),
        ("12 of 12 samples flip", "11 of 12 samples flip", False),
        ("Cause: L2.mlp", "Cause: L1.mlp", False),
        (" search, s  2  151  105", " search, s  2  1.5  0.9", True),
        ("12 incidents", "13 incidents", False),
    ],
)
def test_what_may_differ_and_what_may_not(left: str, right: str, same: bool) -> None:
    assert (operations.comparable(left) == operations.comparable(right)) is same
