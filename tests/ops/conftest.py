"""Every operation is tested in every backend that this installation has."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from model_forensics import ops
from model_forensics.ops._dispatch import AVAILABLE

sys.path.insert(0, str(Path(__file__).parent))  # patch_cases

CPU_BACKENDS = ("numpy", "numba", "cpp")


@pytest.fixture(params=CPU_BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Name of a backend; skips, with its reason, one that is not there."""
    name = str(request.param)
    state = ops.backends()["histogram"][name]
    if state != AVAILABLE:
        pytest.skip(f"backend '{name}': {state}")
    return name


@pytest.fixture
def implementation(backend: str) -> ModuleType:
    """The backend's module, for tests that hand it an output of their own."""
    import numpy as np

    return ops.select("histogram", np.empty((0, 0), dtype=np.uint8), backend).module
