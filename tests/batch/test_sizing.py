"""How many workers, and why."""

from __future__ import annotations

import pytest

from model_forensics.batch import sizing

GIB = 2**30


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of eight processors: its memory, and limits and use of its control groups, `/` being all of them."""

    def build(available: int | None = None, **groups: tuple[str, int, int]):
        for name, place in (("MEMORY", "meminfo"), ("OWN_GROUP", "cgroup"), ("GROUPS", "groups")):
            monkeypatch.setattr(sizing, name, tmp_path / place)
        if available is not None:
            (tmp_path / "meminfo").write_text(
                f"MemTotal:       99 kB\nHugePages_Total:       0\nMemAvailable:   {available // 1024} kB\n"
            )
        group = tmp_path / "groups"
        (tmp_path / "cgroup").write_text(f"0::/{'/'.join(name for name in groups if name != 'root')}\n")
        for name, (limit, used, inactive) in groups.items():
            group = group if name == "root" else group / name
            group.mkdir()
            (group / "memory.max").write_text(f"{limit}\n")
            (group / "memory.current").write_text(f"{used}\n")
            (group / "memory.stat").write_text(f"anon 1\ninactive_file {inactive}\n")

    monkeypatch.setattr(sizing, "processors", lambda: 8)
    return build


def test_one_worker_where_more_would_not_pay_or_might_not_fit(machine):
    machine(available=1000 * GIB)
    assert sizing.suitable_workers(gpu=True, model_bytes=0)[0] == 1
    count, reason = sizing.suitable_workers(gpu=False, model_bytes=None)
    assert count == 1
    assert "not known" in reason


@pytest.mark.parametrize(
    ("available", "model", "count"), [(1000 * GIB, GIB, 8), (10 * GIB, GIB, 4), (10 * GIB, 9 * GIB, 1), (GIB, GIB, 1)]
)
def test_as_many_as_fit(machine, available, model, count):
    machine(available)
    chosen, reason = sizing.suitable_workers(gpu=False, model_bytes=model)
    assert chosen == count
    assert ("each processor" in reason) == (count == 8)


def test_where_nothing_says_how_much_memory_is_free_there_is_one_for_each_processor(machine):
    machine()
    assert sizing.available_memory() is None
    assert sizing.suitable_workers(gpu=False, model_bytes=GIB)[0] == 8


def test_the_tightest_group_counts_and_what_files_fill_is_free(machine):
    machine(100 * GIB, root=("max", 50 * GIB, 0), outer=(str(20 * GIB), 15 * GIB, 3 * GIB), inner=("max", 1, 0))
    assert sizing.available_memory() == 8 * GIB


def test_a_group_above_its_limit_leaves_nothing(machine):
    machine(100 * GIB, root=(str(GIB), 2 * GIB, 0))
    assert sizing.available_memory() == 0


def test_this_machine_says_how_much_memory_is_free():
    free = sizing.available_memory()
    assert free is None or free > 0


def test_sizes_of_models(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model-00001.safetensors").write_bytes(bytes(300))
        (tmp_path / name / "model-00002.safetensors").write_bytes(bytes(200))
        (tmp_path / name / "tokenizer.json").write_bytes(bytes(999))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "weights.bin").write_bytes(bytes(300))
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    assert sizing.model_bytes(a, None) == 500
    assert sizing.model_bytes(a, b) == 1000
    assert sizing.model_bytes(a, "hub/name") is None
    assert sizing.model_bytes(str(tmp_path / "other")) is None


def test_a_gpu_is_there_when_its_driver_is(tmp_path, monkeypatch):
    monkeypatch.setattr(sizing, "DRIVERS", (tmp_path / "driver",))
    assert not sizing.has_gpu()
    (tmp_path / "driver").touch()
    assert sizing.has_gpu()
