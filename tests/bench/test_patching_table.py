"""The table of patching speeds comes from committed runs."""

from __future__ import annotations

import json

from bench import patching_table
from bench.table import fill

RUNS = sorted(patching_table.RUNS.glob("*.json"))


def test_the_committed_page_is_what_the_committed_runs_give():
    assert RUNS
    page = patching_table.PAGE.read_text()
    text = patching_table.as_markdown([json.loads(path.read_text()) for path in RUNS])
    assert fill(page, {"patching": text}) == page, "write it anew: python -m bench patching_table --write"


def test_committed_runs_checked_themselves_and_name_no_host():
    for path in RUNS:
        run = json.loads(path.read_text())
        assert run["self_check_max_error"] <= 5e-6
        assert run["execution"]["from_middle"]
        assert not {"node", "hostname"} & set(run["machine"])


def test_a_rival_that_was_not_there_has_no_number():
    run = json.loads(RUNS[0].read_text())
    run["ratio"].pop("nnsight", None)
    run.pop("beam_in_patches", None)
    row = patching_table.as_markdown([run]).splitlines()[2].split("|")
    assert row[6].strip() == "–"
    assert row[9].strip() == "–"
