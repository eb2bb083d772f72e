"""The tables of docs/performance.md come from the committed runs, and say what was not measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import case, contender, write

from bench import bars, results, table

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "performance.md"
RUNS = sorted((ROOT / "bench" / "results").glob("*.json"))


def test_the_committed_page_is_what_the_committed_runs_give():
    page = PAGE.read_text()
    assert table.fill(page, table.blocks([results.read(path) for path in RUNS])) == page, (
        "write it anew: python -m bench table bench/results/*.json --write docs/performance.md"
    )


def test_committed_runs_are_of_full_size_and_name_no_host():
    for path in RUNS:
        run = results.read(path)
        assert run.machine.get("size", "full") == "full"  # GPU runs have one size only
        assert not {"node", "hostname"} & set(run.machine)


def test_without_a_run_every_bar_is_not_yet_measured():
    outcomes = bars.judge([])
    assert {one.verdict for one in outcomes} == {"not yet measured"}
    assert len(outcomes) == len(bars.CPU_BARS) + len(bars.GPU_BARS)


def test_a_bar_is_reached_or_not_by_its_own_number(tmp_path):
    name = "entropy_windows, bytes"
    entries = [contender("cpp", 1e-3), contender("numba", 4e-3), contender("plain numba", 2e-3, ours=False)]
    run = results.read(write(tmp_path / "run.json", case(name, *entries)))
    found = {one.bar.what: (one.one_thread, one.verdict) for one in bars.judge([run]) if one.bar.case == name}
    assert found == {
        name: (pytest.approx(1.0), "not reached"),  # at least 1.3 GB/s
        f"{name}: against vectorised NumPy": (None, "not yet measured"),
        f"{name}: against a plain numba loop": (pytest.approx(2.0), "not reached"),
        f"{name}: how much faster than the numba fallback": (pytest.approx(4.0), "not reached"),  # at most 3
    }


def test_the_fastest_reader_is_the_denominator(tmp_path):
    readers = [contender("read: a", 2e-3, ours=False), contender("read: b", 1e-3, ours=False)]
    name = "codelength, fused"
    run = results.read(write(tmp_path / "run.json", case(name, contender("cpp", 2e-3), *readers)))
    (outcome,) = (one for one in bars.judge([run]) if one.bar.case == name and "fastest" in one.bar.what)
    assert outcome.one_thread == pytest.approx(50)
    assert outcome.verdict == "not reached"


def test_a_gpu_run_fills_the_gpu_bars(tmp_path):
    cases = [
        case("gpu: codelength, fused", contender("cuda", 1.0), contender("copy", 0.75, ours=False)),
        case("gpu: arithmetic_encode, static", contender("cuda", 8e-6)),
    ]
    run = results.read(write(tmp_path / "run.json", *cases, gpu="Example GPU"))
    found = [(one.one_thread, one.verdict) for one in bars.judge([run], bars.GPU_BARS)]
    assert found == [
        (pytest.approx(75), "reached"),
        (None, "not yet measured"),
        (None, "not yet measured"),
        (pytest.approx(125), "reached"),
    ]
    assert "Example GPU" in table.machine(run)


def test_the_smallest_of_our_models_stands_for_the_stored_size(tmp_path):
    name = "stored size, bfloat16, recorded"
    rival = contender("zstd 19, byte planes", 1.0, ours=False, stored_bytes=100)
    mine = [contender(f"cpp, {model}", 1.0, stored_bytes=size) for model, size in (("static", 110), ("adaptive", 95))]
    run = results.read(write(tmp_path / "run.json", case(name, *mine, rival)))
    (outcome,) = (one for one in bars.judge([run]) if one.bar.case == name)
    assert outcome.one_thread == pytest.approx(95)
    assert outcome.verdict == "reached"


def test_a_page_is_filled_between_its_markers_only(tmp_path):
    run = write(tmp_path / "run.json", case("windows", contender("cpp", 1e-3, peak_extra_bytes=3 << 20)))
    page = tmp_path / "page.md"
    page.write_text("".join(f"before\n<!-- bench: {name} -->\n<!-- bench: end -->\n" for name in table.blocks([])))
    assert table.main([str(run), "--write", str(page)]) == 0
    filled = page.read_text()
    assert filled.count("before") == 3
    assert "0123456789ab" in filled
    assert "| cpp | 1 GB/s | 1        | 3.0 MiB      |" in filled
    assert table.main([str(run), "--write", str(page)]) == 0
    assert page.read_text() == filled


def test_a_page_without_markers_and_a_file_that_is_no_run_are_refused(tmp_path, capsys):
    run = write(tmp_path / "run.json", case("windows", contender("cpp", 1e-3)))
    page = tmp_path / "page.md"
    page.write_text("nothing\n")
    assert table.main([str(run), "--write", str(page)]) == 2
    assert table.main([str(page)]) == 2
    assert capsys.readouterr().err.count("python -m bench table:") == 2
