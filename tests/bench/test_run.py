"""Benchmarks run, and none reports a time for a wrong result."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pytest_benchmark", reason="benchmarks need the bench extra")
pytest.importorskip("constriction", reason="benchmarks need the bench extra")

from bench import bars, machine, results, run
from bench.memory import peak_extra_bytes
from model_forensics import ops

ROOT = Path(__file__).resolve().parents[2]

SUITE = """
import numpy as np
from bench.contest import Contender, equal_to, ours
from model_forensics import ops

X = np.arange(1000, dtype=np.uint8)
RIGHT = ops.entropy_windows(X, backend="numpy")


def compete(contest, name, result):
    mine = ours("entropy_windows", lambda backend: ops.entropy_windows(X, backend=backend), equal_to(RIGHT), X.size)
    other = Contender("other", lambda: result, equal_to(RIGHT), X.size)
    contest.run(name, unit="B", given="1,000 bytes", contenders=[*mine, other])


def test_right(contest):
    compete(contest, "right", RIGHT.copy())


def test_wrong(contest):
    compete(contest, "wrong", np.nextafter(RIGHT, 9))


def test_of_another_type(contest):
    compete(contest, "of another type", RIGHT.astype(np.float32))
"""


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks are switched off in a process of a suite that is spread over several."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)


def test_a_wrong_result_is_never_timed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    suite = tmp_path / "test_suite.py"
    suite.write_text(SUITE)
    output = tmp_path / "run.json"
    assert run.run_suite(suite, output, "--bench-size", "tiny") == 1
    assert list(results.read(output).cases) == ["right"]
    said = capfd.readouterr().out
    assert "wrong: the result of other is wrong, nothing is timed" in said
    assert "of another type: the result of other is wrong, nothing is timed" in said


@pytest.mark.slow
def test_every_benchmark_runs_and_every_bar_gets_its_number(tmp_path: Path) -> None:
    if ops.backends()["entropy_windows"]["cpp"] != "available":
        pytest.skip("bars are of the compiled core")
    output = tmp_path / "run.json"
    assert run.main(["--size", "tiny", "--output", str(output)]) == 0
    found = results.read(output)
    missing = [one.bar.what for one in bars.judge([found], bars.CPU_BARS) if one.one_thread is None]
    needs_recordings = [what for what in missing if "bfloat16, recorded" in what]
    assert missing == needs_recordings
    document = json.loads(output.read_text())
    assert document["commit_info"].keys() == {"id", "dirty"}
    assert platform.node() not in document["machine_info"].values()
    assert str(ROOT) not in output.read_text()


def test_an_earlier_run_does_not_survive_one_that_measures_nothing(tmp_path: Path) -> None:
    output = tmp_path / "run.json"
    output.write_text("{}")
    suite = tmp_path / "test_nothing.py"
    suite.write_text("def test_fails(): assert False\n")
    assert run.run_suite(suite, output) != 0
    assert not output.exists()


def test_memory_of_temporaries_and_results_is_seen() -> None:
    size = 32 << 20
    values = np.ones(size // 4, dtype=np.float32)
    measured = peak_extra_bytes(lambda: (values * 2, values * 3))
    if measured is None:
        pytest.skip("this system does not tell the peak of the resident memory")
    assert 1.9 * size < measured < 2.3 * size
    assert peak_extra_bytes(lambda: None) < 1 << 20


def test_the_load_of_others_is_a_share() -> None:
    load = machine.Load()
    sum(range(2_000_000))
    share = load.of_others()
    assert share is None or 0 <= share <= 1
