from __future__ import annotations

import sys

import numpy as np
import pytest

from model_forensics import ops
from model_forensics.errors import BackendUnavailable, UsageError
from model_forensics.ops import _dispatch

SYMBOLS = np.zeros((4, 2), np.uint8)


class OnGpu:
    """What a CUDA tensor looks like to the DLPack standard."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return (2, 0)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Make modules impossible to import, as if they were not installed."""

    def hide(*names: str) -> None:
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)
        backends = ("model_forensics.ops._cpp", "model_forensics.ops._numba")
        for name in [name for name in sys.modules if name.startswith(backends)]:
            monkeypatch.delitem(sys.modules, name)
        _dispatch._load.cache_clear()

    yield hide
    _dispatch._load.cache_clear()


def test_auto_takes_the_first_backend_that_is_there() -> None:
    choice = ops.select("histogram", SYMBOLS)
    available = [name for name in ("cpp", "numba", "numpy") if ops.backends()["histogram"][name] == "available"]
    assert choice.backend == available[0]


def test_auto_falls_through_with_reasons(without) -> None:  # type: ignore[no-untyped-def]
    without("model_forensics._core", "numba")
    choice = ops.select("histogram", SYMBOLS)
    assert choice.backend == "numpy"
    assert "compiled core is not built" in choice.passed_over["cpp"]
    assert "numba is not installed" in choice.passed_over["numba"]
    assert ops.backends()["quantize"]["cpp"] == choice.passed_over["cpp"]
    assert ops.histogram(SYMBOLS)[0, 0] == 4
    assert ops.chosen()["histogram"] == "numpy"


def test_a_backend_asked_for_by_name_never_falls_through(without) -> None:  # type: ignore[no-untyped-def]
    without("model_forensics._core")
    with pytest.raises(BackendUnavailable, match="compiled core is not built"):
        ops.histogram(SYMBOLS, backend="cpp")


@pytest.mark.parametrize("backend", ["cuda", "triton"])
def test_gpu_backends_say_why_they_cannot_serve(backend: str) -> None:
    with pytest.raises(BackendUnavailable, match=r"not built|no CUDA GPU|host memory"):
        ops.histogram(SYMBOLS, backend=backend)


@pytest.mark.parametrize("backend", ["auto", "numpy", "cuda"])
def test_gpu_data_is_never_copied_silently(backend: str) -> None:
    with pytest.raises(BackendUnavailable, match=r"not built|on a GPU|no CUDA GPU"):
        ops.histogram(OnGpu(), backend=backend)  # type: ignore[arg-type]


def test_an_exception_inside_a_backend_propagates(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("inside")

    monkeypatch.setattr(ops.select("histogram", SYMBOLS).module, "histogram", broken)
    with pytest.raises(ZeroDivisionError, match="inside"):
        ops.histogram(SYMBOLS)


def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="entropy_windows"):
        ops.select("entropy", SYMBOLS)
    with pytest.raises(UsageError, match="numba"):
        ops.select("histogram", SYMBOLS, "fortran")


def test_chosen_names_what_served() -> None:
    ops.quantize(np.zeros((1, 1), np.float32), ops.Grid("sign"), backend="numpy")
    assert ops.chosen()["quantize"] == "numpy"


def test_operations_need_no_torch() -> None:
    import subprocess

    program = "import sys, model_forensics.ops; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
