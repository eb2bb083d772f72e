"""The Triton kernels without a GPU: the tests of their operations, in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

OPERATIONS = Path(__file__).resolve().parent.parent / "ops"


@pytest.mark.parametrize("tests", ["test_patch_rows.py"])
def test_the_operation_holds_in_the_interpreter(tests: str) -> None:
    pytest.importorskip("triton", reason="Triton is not installed (Linux on x86-64 has it with the test extra)")
    command = [sys.executable, "-m", "pytest", str(OPERATIONS / tests), "-q", "-rs", "-k", "triton"]
    # Triton asks the environment when it is imported, so this needs a process of its own.
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
    assert "backend 'triton'" not in done.stdout, "skipped for want of the backend"
