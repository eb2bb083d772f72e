"""What `python -m bench compare` calls slower, and what it refuses to compare."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import case, contender, write

from bench import compare


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return write(
        tmp_path / "a.json",
        case("windows", contender("cpp", 1.0), contender("numba", 2.0), contender("NumPy", 10.0, ours=False)),
        case("alone", contender("cpp", 1.0)),
    )


def outcome(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = compare.main([str(one) for one in arguments])
    said = capsys.readouterr()
    return code, said.out + said.err


def test_a_run_is_not_slower_than_itself(a, capsys):
    code, said = outcome(capsys, a, a)
    assert code == 0
    assert said.startswith("0 of 3 quantities")


def test_what_got_slower_fails_with_its_ratios(a, tmp_path, capsys):
    b = write(
        tmp_path / "b.json",
        case("windows", contender("cpp", 1.2), contender("numba", 2.0), contender("NumPy", 10.0, ours=False)),
        case("alone", contender("cpp", 1.0)),
    )
    code, said = outcome(capsys, a, b)
    assert code == 1
    assert "1.200    1.200  time         windows: cpp" in said
    assert "numba" not in said
    assert outcome(capsys, a, b, "--fail-above", "1.25")[0] == 0


def test_a_machine_that_is_slower_for_everyone_is_no_regression(a, tmp_path, capsys):
    b = write(
        tmp_path / "b.json",
        case("windows", contender("cpp", 1.5), contender("numba", 3.0), contender("NumPy", 15.0, ours=False)),
        case("alone", contender("cpp", 1.5)),  # has no yardstick of its own: the run's is taken
    )
    assert outcome(capsys, a, b)[0] == 0


def test_a_regression_that_a_faster_machine_hides_is_found(a, tmp_path, capsys):
    b = write(
        tmp_path / "b.json",
        case("windows", contender("cpp", 1.0), contender("numba", 1.0), contender("NumPy", 5.0, ours=False)),
        case("alone", contender("cpp", 0.5)),
    )
    code, said = outcome(capsys, a, b)
    assert code == 1
    assert "2.000    1.000  time         windows: cpp" in said


def test_a_faster_yardstick_library_is_not_ours_getting_slower_when_others_agree(tmp_path, capsys):
    rivals = [contender(f"library {n}", 10.0, ours=False) for n in range(3)]
    a = write(tmp_path / "a.json", case("windows", contender("cpp", 1.0), *rivals))
    rivals[0]["median_seconds"] = 2.0
    b = write(tmp_path / "b.json", case("windows", contender("cpp", 1.0), *rivals))
    assert outcome(capsys, a, b)[0] == 0


@pytest.mark.parametrize("quantity", ["stored_bytes", "peak_extra_bytes"])
def test_sizes_and_memory_are_judged_as_they_are(tmp_path, capsys, quantity):
    a = write(tmp_path / "a.json", case("coder", contender("cpp", 1.0, **{quantity: 10 << 20})))
    b = write(tmp_path / "b.json", case("coder", contender("cpp", 1.0, **{quantity: 12 << 20})))
    assert outcome(capsys, a, b)[0] == 1
    assert outcome(capsys, b, a)[0] == 0


def test_a_vanished_benchmark_fails_unless_b_is_partial(a, tmp_path, capsys):
    b = write(tmp_path / "b.json", case("alone", contender("cpp", 1.0)))
    code, said = outcome(capsys, a, b)
    assert code == 1
    assert "windows: cpp" in said
    assert outcome(capsys, a, b, "--partial")[0] == 0


@pytest.mark.parametrize("changed", [{"cpu": "Another"}, {"cores": 64}, {"instruction_set": "avx2"}])
def test_other_machines_are_refused_unless_told(a, tmp_path, capsys, changed):
    cases = [case("windows", contender("cpp", 1.0), contender("numba", 2.0)), case("alone", contender("cpp", 1.0))]
    b = write(tmp_path / "b.json", *cases, **changed)
    code, said = outcome(capsys, a, b)
    assert code == 2
    assert "--other-machine" in said
    assert str(next(iter(changed.values()))) in said
    assert outcome(capsys, a, b, "--other-machine")[0] == 0


def test_other_sizes_and_other_files_are_refused(a, tmp_path, capsys):
    tiny = write(tmp_path / "tiny.json", case("windows", contender("cpp", 1.0)), size="tiny")
    assert outcome(capsys, a, tiny)[0] == 2
    nothing = write(tmp_path / "nothing.json", case("else", contender("cpp", 1.0)))
    assert outcome(capsys, a, nothing)[0] == 2
    (tmp_path / "list.json").write_text("[]")
    assert outcome(capsys, a, tmp_path / "list.json")[0] == 2
    assert outcome(capsys, a, tmp_path / "missing.json")[0] == 2
