"""The one place that picks a backend.

A CPU array goes to the compiled core (`cpp`), then `numba`, then `numpy`; data on a GPU to the backends of
`GPU_OPERATIONS` that have the operation; `auto` passes over a backend only for a stated reason. A backend asked for
by name that cannot serve raises. An exception inside a backend always propagates.
"""

from __future__ import annotations

import importlib
import shutil
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache, wraps
from inspect import signature
from os import environ, pathsep
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, ParamSpec, TypeVar, get_args

from model_forensics import spans
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
    "predictive_bits",
    "add_moments",
    "value_shapes",
    "bin_sums",
]
Backend = Literal["auto", "cpp", "numba", "numpy", "cuda", "triton"]

OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)
CPU_ORDER: Final = ("cpp", "numba", "numpy")
GPU_OPERATIONS: Final[Mapping[str, tuple[Operation, ...]]] = {
    "cuda": (
        "entropy_windows",
        "histogram",
        "quantize",
        "codelength",
        "codelength_adaptive",
        "arithmetic_encode",
        "arithmetic_decode",
    ),
    "triton": ("patch_rows",),
}
"""GPU backend, in order of preference → the operations that it has. The CPU backends have all of them."""
AVAILABLE: Final = "available"

_DLPACK_CPU: Final = 1  # kDLCPU of the DLPack standard

_served: dict[str, str] = {}
_collected: ContextVar[tuple[dict[str, str], ...]] = ContextVar("collected", default=())
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Choice:
    """The backend that serves a call.

    Attributes:
        operation: name of the public function.
        backend: name of the backend, never "auto".
        module: the module that implements it.
        passed_over: backends that `auto` would have preferred, with the reason why they cannot serve.
        began: when it was made, for who listens to spans.
    """

    operation: str
    backend: str
    module: ModuleType
    passed_over: Mapping[str, str] = field(default_factory=dict)
    began: int = field(default_factory=spans.now, compare=False)


def select(op: str, x: Any, backend: str = "auto") -> Choice:
    """The backend that serves operation `op` on `x`.

    Args:
        op: name of a public function of `model_forensics.ops`.
        x: the data; its device decides which backends are asked.
        backend: "auto", or the name of a backend.

    Raises:
        UsageError: unknown operation or backend.
        BackendUnavailable: the backend cannot serve, with the reason.
    """
    if op not in OPERATIONS:
        raise UsageError(f"there is no operation '{op}'", cure=f"Choose one of {', '.join(OPERATIONS)}")
    if backend not in get_args(Backend):
        raise UsageError(
            f"there is no backend '{backend}'", where=op, cure=f"Choose one of {', '.join(get_args(Backend))}"
        )
    on_gpu = _on_gpu(x)
    passed_over: dict[str, str] = {}
    for name in (backend,) if backend != "auto" else tuple(GPU_OPERATIONS) if on_gpu else CPU_ORDER:
        module, reason = _serving(name, op, on_gpu)
        if module is not None:
            return Choice(op, name, module, passed_over)
        passed_over[name] = reason
    told = "; ".join(f"backend '{name}' cannot serve: {reason}" for name, reason in passed_over.items())
    raise BackendUnavailable(told, where=op, cure=_cure(backend, on_gpu))


def served_on_gpu(operation: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """For public operations that the `cuda` backend has: it takes tensors there, with the same arguments.

    Its results are tensors on the same device, so nothing of what the operation does for arrays applies.
    """
    name = operation.__name__
    first = next(iter(signature(operation).parameters))  # the data

    @wraps(operation)
    def dispatched(*arguments: _Arguments.args, **named: _Arguments.kwargs) -> _Result:
        x = arguments[0] if arguments else named.get(first)
        backend = str(named.get("backend", "auto"))
        if backend != "cuda" and not (backend == "auto" and _on_gpu(x)):
            return operation(*arguments, **named)
        choice = select(name, x, backend)
        result: _Result = getattr(choice.module, name)(
            *arguments, **{key: value for key, value in named.items() if key != "backend"}
        )
        record(choice)
        return result

    return dispatched


def record(choice: Choice) -> None:
    """Note that a backend has served an operation."""
    note_served({choice.operation: choice.backend})
    spans.ended(f"{choice.operation} ({choice.backend})", "operation", choice.began)


def note_served(served: Mapping[str, str]) -> None:
    """Note which backends served which operations: now, or when what is now reused was computed."""
    _served.update(served)
    for collected in _collected.get():
        collected.update(served)


@contextmanager
def collected() -> Iterator[dict[str, str]]:
    """A dictionary that fills with what `chosen` would say if only the body, in this thread, had run."""
    found: dict[str, str] = {}
    token = _collected.set((*_collected.get(), found))
    try:
        yield found
    finally:
        _collected.reset(token)


def chosen() -> dict[str, str]:
    """Operation → backend that served it last in this process; operations that never ran are absent."""
    return dict(_served)


def backends() -> dict[str, dict[str, str]]:
    """Operation → backend → "available", or the reason why it cannot serve. Imports every backend."""
    names = (*CPU_ORDER, *GPU_OPERATIONS)
    return {
        op: {name: _serving(name, op, name in GPU_OPERATIONS)[1] or AVAILABLE for name in names} for op in OPERATIONS
    }


def _on_gpu(x: Any) -> bool:
    device = getattr(x, "__dlpack_device__", None)
    return device is not None and int(device()[0]) != _DLPACK_CPU


def _serving(name: str, op: str, on_gpu: bool) -> tuple[ModuleType | None, str]:
    """The module of a backend that can serve `op` on such data and "", or None and the reason why it cannot."""
    if name not in GPU_OPERATIONS:
        return (None, "the data is on a GPU") if on_gpu else _load(name)
    if op not in GPU_OPERATIONS[name]:
        return None, f"not built: this version has no {op} there"
    module, reason = _load(name)
    if module is None or (reason := module.missing(on_gpu)):
        return None, reason
    return module, ""


def _cure(backend: str, on_gpu: bool = False) -> str:
    if on_gpu:
        return "Copy the data to host memory first, for example with tensor.cpu().numpy()"
    if backend == "cpp":
        return "Install a C++20 compiler and reinstall the package, or use backend='auto'"
    return "Reinstall the package" if backend == "auto" else "Use backend='auto'"


@cache
def _load(name: str) -> tuple[ModuleType | None, str]:
    """The backend's module and "", or None and the reason why it cannot serve."""
    try:
        with _build_tools_on_path():
            return importlib.import_module(f"model_forensics.ops._{name}"), ""
    except ModuleNotFoundError as error:
        if error.name == "model_forensics._core":
            return None, "the compiled core is not built (no C++ compiler at install time, or switched off)"
        if error.name == "model_forensics._core_cuda":
            return None, "not built: no nvcc at install time, or switched off"
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
