"""The one place that picks a backend.

A CPU array goes to the compiled core (`cpp`), then `numba`, then `numpy`; `auto` passes over a backend only for a
stated reason. A backend asked for by name that cannot serve raises. An exception inside a backend always propagates.
"""

from __future__ import annotations

import importlib
import shutil
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from os import environ, pathsep
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, get_args

from model_forensics.errors import BackendUnavailable, UsageError

Operation = Literal[
    "entropy_windows",
    "histogram",
    "quantize",
    "codelength",
    "codelength_adaptive",
    "arithmetic_encode",
    "arithmetic_decode",
    "patch_rows",
]
Backend = Literal["auto", "cpp", "numba", "numpy", "cuda", "triton"]

OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)
CPU_ORDER: Final = ("cpp", "numba", "numpy")
GPU_BACKENDS: Final = ("cuda", "triton")
AVAILABLE: Final = "available"

_GPU_REASON: Final = "not built: this version has no GPU operations"
_DLPACK_CPU: Final = 1  # kDLCPU of the DLPack standard

_served: dict[str, str] = {}


@dataclass(frozen=True)
class Choice:
    """The backend that serves a call.

    Attributes:
        operation: name of the public function.
        backend: name of the backend, never "auto".
        module: the module that implements it.
        passed_over: backends that `auto` would have preferred, with the reason why they cannot serve.
    """

    operation: str
    backend: str
    module: ModuleType
    passed_over: Mapping[str, str] = field(default_factory=dict)


def select(op: str, x: Any, backend: str = "auto") -> Choice:
    """The backend that serves operation `op` on `x`.

    Args:
        op: name of a public function of `model_forensics.ops`.
        x: the data; its device decides which backends are asked.
        backend: "auto", or the name of a backend.

    Raises:
        UsageError: unknown operation or backend, or `x` is not a NumPy array.
        BackendUnavailable: the backend cannot serve, with the reason.
    """
    if op not in OPERATIONS:
        raise UsageError(f"there is no operation '{op}'", cure=f"Choose one of {', '.join(OPERATIONS)}")
    if backend not in get_args(Backend):
        raise UsageError(
            f"there is no backend '{backend}'", where=op, cure=f"Choose one of {', '.join(get_args(Backend))}"
        )
    _refuse_gpu_data(op, x)
    if backend != "auto":
        module, reason = _load(backend)
        if module is None:
            raise BackendUnavailable(f"backend '{backend}' cannot serve: {reason}", where=op, cure=_cure(backend))
        return Choice(op, backend, module)
    passed_over: dict[str, str] = {}
    for name in CPU_ORDER:
        module, reason = _load(name)
        if module is not None:
            return Choice(op, name, module, passed_over)
        passed_over[name] = reason
    raise BackendUnavailable("no backend can serve", where=op, cure=f"Reinstall the package ({passed_over})")


def record(choice: Choice) -> None:
    """Note that a backend is serving an operation."""
    _served[choice.operation] = choice.backend


def chosen() -> dict[str, str]:
    """Operation → backend that served it last in this process; operations that never ran are absent."""
    return dict(_served)


def backends() -> dict[str, dict[str, str]]:
    """Operation → backend → "available", or the reason why it cannot serve. Imports every backend."""
    state = {name: _load(name)[1] or AVAILABLE for name in (*CPU_ORDER, *GPU_BACKENDS)}
    return {operation: dict(state) for operation in OPERATIONS}


def _refuse_gpu_data(op: str, x: Any) -> None:
    device = getattr(x, "__dlpack_device__", None)
    if device is not None and int(device()[0]) != _DLPACK_CPU:
        raise BackendUnavailable(
            f"the data is on a GPU, and the GPU operations are {_GPU_REASON}",
            where=op,
            cure="Copy it to host memory first, for example with tensor.cpu().numpy()",
        )


def _cure(backend: str) -> str:
    if backend == "cpp":
        return "Install a C++20 compiler and reinstall the package, or use backend='auto'"
    return "Use backend='auto'"


@cache
def _load(name: str) -> tuple[ModuleType | None, str]:
    """The backend's module and "", or None and the reason why it cannot serve."""
    if name in GPU_BACKENDS:
        return None, _GPU_REASON
    try:
        with _build_tools_on_path():
            return importlib.import_module(f"model_forensics.ops._{name}"), ""
    except ModuleNotFoundError as error:
        if error.name == "model_forensics._core":
            return None, "the compiled core is not built (no C++ compiler at install time, or switched off)"
        return None, f"{error.name} is not installed"
    except ImportError as error:
        return None, f"it does not import here ({error})"


@contextmanager
def _build_tools_on_path() -> Iterator[None]:
    """Put this environment's own scripts on PATH while a backend is imported.

    An editable install may rebuild the core when it is imported, and calls `cmake` by name; the environment that holds
    cmake need not be activated.
    """
    scripts = Path(sysconfig.get_path("scripts"))
    if shutil.which("cmake") is not None or not (scripts / "cmake").exists():
        yield
        return
    before = environ.get("PATH", "")
    environ["PATH"] = f"{before}{pathsep}{scripts}" if before else str(scripts)
    try:
        yield
    finally:
        environ["PATH"] = before
