"""Every operation is tested in every backend that this installation has."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from model_forensics import ops
from model_forensics.ops import _dispatch
from model_forensics.ops._dispatch import AVAILABLE

sys.path.insert(0, str(Path(__file__).parent))  # patch_cases, cuda_emulated

CPU_BACKENDS = ("numpy", "numba", "cpp")
CUDA_MODULES = ("model_forensics._core_cuda", "model_forensics.ops._cuda", "model_forensics.ops._cuda_arithmetic")

Upload = Callable[[np.ndarray], Any]


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
    return ops.select("histogram", np.empty((0, 0), dtype=np.uint8), backend).module


@pytest.fixture(scope="session")
def emulation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `_core_cuda` over the emulation of CUDA is built in, once."""
    import cuda_emulated

    if cuda_emulated.compiler() is None:
        pytest.skip("no C++ compiler to build the emulation with")
    folder = tmp_path_factory.mktemp("cuda")
    cuda_emulated.build(folder)
    return folder


@pytest.fixture(scope="module")
def emulated(emulation: Path) -> Iterator[None]:
    """`model_forensics.ops._cuda` over the emulation, for the whole module."""
    import cuda_emulated

    kept = {name: _take_out(name) for name in CUDA_MODULES}
    sys.modules[CUDA_MODULES[0]] = cuda_emulated.load(emulation)
    _dispatch._load.cache_clear()
    importlib.import_module("model_forensics.ops._cuda").missing = lambda _: ""  # type: ignore[attr-defined]
    yield
    for name, module in kept.items():
        _take_out(name)
        if module is not None:
            sys.modules[name] = module
    _dispatch._load.cache_clear()


def _take_out(name: str) -> ModuleType | None:
    """Forget a module, so that the next import finds another."""
    parent, _, leaf = name.rpartition(".")
    vars(sys.modules[parent]).pop(leaf, None)
    return sys.modules.pop(name, None)


@pytest.fixture(params=[pytest.param("emulated", marks=pytest.mark.slow), pytest.param("gpu", marks=pytest.mark.gpu)])
def upload(request: pytest.FixtureRequest) -> Upload:
    """Makes a tensor where the backend under test works."""
    import torch

    if request.param == "emulated":
        request.getfixturevalue("emulated")
    device = "cuda" if request.param == "gpu" else "cpu"
    return lambda array: torch.from_numpy(np.array(array)).to(device)
