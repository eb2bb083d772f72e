"""Threads and instruction sets of the compiled core."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from model_forensics import ops
from model_forensics.errors import BackendUnavailable, UsageError
from model_forensics.ops import _dispatch

SYMBOLS = np.random.default_rng(0).integers(0, 256, 1_500_000, dtype=np.uint8)  # enough for several threads


@pytest.fixture
def core() -> Iterator[None]:
    """Skips without the compiled core; puts the number of threads back."""
    state = ops.backends()["entropy_windows"]["cpp"]
    if state != _dispatch.AVAILABLE:
        pytest.skip(f"backend 'cpp': {state}")
    before = ops.threads()
    yield
    ops.set_threads(before)


def same_windows() -> bool:
    got = ops.entropy_windows(SYMBOLS, backend="cpp")
    return bool((got == ops.entropy_windows(SYMBOLS, backend="numpy")).all())


def python(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize("count", [1, 2, 5])
def test_results_do_not_depend_on_the_number_of_threads(core: None, count: int) -> None:
    ops.set_threads(count)
    assert ops.threads() == count
    assert same_windows()


@pytest.mark.parametrize("count", [0, -1, 1025, 2.0, True, "2"])
def test_a_wrong_number_of_threads_is_refused(core: None, count: object) -> None:
    before = ops.threads()
    with pytest.raises(UsageError, match="from 1 to 1024"):
        ops.set_threads(count)  # type: ignore[arg-type]
    assert ops.threads() == before


def test_the_instruction_set_has_a_name(core: None) -> None:
    assert ops.instruction_set() in {"portable", "avx2", "avx512"}


def test_python_threads_may_call_at_once(core: None) -> None:
    ops.set_threads(3)
    expected = ops.entropy_windows(SYMBOLS, backend="numpy")
    results: list[bool] = []

    def call() -> None:
        for _ in range(5):
            results.append(bool((ops.entropy_windows(SYMBOLS, backend="cpp") == expected).all()))

    callers = [threading.Thread(target=call) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == [True] * 20


def test_an_exception_on_any_thread_reaches_the_caller_and_the_pool_works_on(core: None) -> None:
    ops.set_threads(3)
    wrong = np.zeros(SYMBOLS.size, np.uint8)
    wrong[-1] = 16
    for _ in range(10):
        with pytest.raises(UsageError, match="symbol 16"):
            ops.entropy_windows(wrong, alphabet=16, backend="cpp")
        assert same_windows()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own(core: None) -> None:
    ops.set_threads(3)
    assert same_windows()
    child = os.fork()
    if child == 0:
        os._exit(0 if same_windows() and ops.threads() == 3 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert same_windows()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork()")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_while_other_threads_compute(core: None) -> None:
    ops.set_threads(3)
    stop = threading.Event()

    def call() -> None:
        while not stop.is_set():
            ops.entropy_windows(SYMBOLS, backend="cpp")

    caller = threading.Thread(target=call)
    caller.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                os._exit(0 if same_windows() else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stop.set()
        caller.join()


def test_the_interpreter_may_end_while_a_thread_computes(core: None) -> None:
    code = """
import threading, numpy as np
from model_forensics import ops
ops.set_threads(3)
x = np.zeros(1 << 20, np.uint8)
started = threading.Event()
def call():
    while True:
        ops.entropy_windows(x, backend="cpp")
        started.set()
threading.Thread(target=call, daemon=True).start()
started.wait()
"""
    for _ in range(3):
        result = python(code)
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("variable", "value", "asked", "answer"),
    [
        ("MODEL_FORENSICS_THREADS", "3", "threads", "3"),
        ("MODEL_FORENSICS_ISA", "portable", "instruction_set", "portable"),
    ],
)
def test_the_environment_says_what_to_use(core: None, variable: str, value: str, asked: str, answer: str) -> None:
    result = python(f"from model_forensics import ops; print(ops.{asked}())", **{variable: value})
    assert result.stdout.strip() == answer, result.stderr


def test_without_a_wish_there_is_a_thread_for_every_processor_that_may_be_used(core: None) -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system does not say which processors a process may use")
    result = python("from model_forensics import ops; print(ops.threads())", MODEL_FORENSICS_THREADS="")
    assert int(result.stdout) == min(1024, len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MODEL_FORENSICS_THREADS", "0"),
        ("MODEL_FORENSICS_THREADS", "-2"),
        ("MODEL_FORENSICS_THREADS", "many"),
        ("MODEL_FORENSICS_THREADS", "2 "),
        ("MODEL_FORENSICS_THREADS", "99999999999"),
        ("MODEL_FORENSICS_ISA", "sse9"),
    ],
)
def test_a_wrong_variable_is_an_error_not_a_slower_backend(core: None, variable: str, value: str) -> None:
    code = "import numpy as np; from model_forensics import ops; ops.entropy_windows(np.zeros(9, np.uint8))"
    result = python(code, **{variable: value})
    assert result.returncode != 0
    assert f"UsageError: environment: {variable} is '{value}'" in result.stderr


@pytest.mark.parametrize("ask", [ops.threads, lambda: ops.set_threads(2), ops.instruction_set])
def test_without_the_core_there_is_nothing_to_steer(monkeypatch: pytest.MonkeyPatch, ask: Callable[[], object]) -> None:
    monkeypatch.setitem(sys.modules, "model_forensics._core", None)
    monkeypatch.delitem(sys.modules, "model_forensics.ops._cpp", raising=False)
    _dispatch._load.cache_clear()
    try:
        with pytest.raises(BackendUnavailable, match="compiled core is not built"):
            ask()
    finally:
        _dispatch._load.cache_clear()
