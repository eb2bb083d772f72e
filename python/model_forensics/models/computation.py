"""What decides the bits that a model computes, as far as that can be told."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from types import FunctionType
from typing import Any, Final

import torch
from torch import nn

from model_forensics.models.digest import tensor_digest
from model_forensics.models.model import Model

_HOOKS: Final = ("_forward_hooks", "_forward_pre_hooks")
_LIBRARIES: Final = ("torch", "transformers", "numpy")
_PLACES: Final = {"name_or_path": None, "_name_or_path": None}
"""Where a model came from: a moved copy computes the same."""


def computation(model: Model) -> dict[str, Any] | None:
    """JSON values that are equal only where the same inputs give the same outputs, bit for bit.

    They cover weights, all buffers (also those that no checkpoint holds, such as rotary frequencies), every module's
    class with the code of its `forward` and its plain attributes (a norm's epsilon), the configuration, versions and
    builds of the libraries, the device and what steers it.

    Returns:
        None where that cannot be told: the model was not built by a released library alone, or a hook or another
        `forward` was put into it.
    """
    if not model.stock or any(_altered(module) for module in model.module.modules()):
        return None
    return {
        "weights": model.reference.weights_digest,
        "modules": _modules_digest(model.module),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "build": hashlib.sha256(torch.__config__.show().encode()).hexdigest(),
        "python": platform.python_version(),
        "device": _device(model.device),
        "settings": _settings(),
    }


def _altered(module: nn.Module) -> bool:
    return "forward" in vars(module) or any(getattr(module, name, None) for name in _HOOKS)


def _modules_digest(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for line in _lines(module):
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()


def _lines(module: nn.Module) -> Iterator[str]:
    config: Any = getattr(module, "config", None)
    if hasattr(config, "to_dict"):
        yield json.dumps(config.to_dict() | _PLACES, sort_keys=True, default=str)
        yield str(getattr(config, "_attn_implementation", None))
    for name, part in module.named_modules():
        kind = type(part)
        yield f"module {name} {kind.__module__}.{kind.__qualname__} {_code(kind.forward)}"
        for attribute, value in sorted((vars(part) | _PLACES).items()):
            if isinstance(value, bool | int | float | str):
                yield f"{attribute}={value!r}"
            elif isinstance(value, FunctionType):
                yield f"{attribute}={value.__module__}.{value.__qualname__} {_code(value)}"
    for name, buffer in module.named_buffers():
        yield f"buffer {name} {tensor_digest(buffer)}"


def _code(function: Any) -> str:
    """Digest of a function's own instructions and constants, below any decorators."""
    code = getattr(function, "__code__", None)
    digest = hashlib.sha256()
    while code is not None:
        digest.update(code.co_code + repr(code.co_names).encode())
        digest.update(repr([one for one in code.co_consts if not hasattr(one, "co_code")]).encode())
        function = getattr(function, "__wrapped__", None)
        code = getattr(function, "__code__", None)
    return digest.hexdigest()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _device(device: torch.device) -> list[Any]:
    if device.type != "cuda":
        return [device.type, torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()]
    found = torch.cuda.get_device_properties(device)
    return [found.name, found.major, found.minor, torch.version.cuda, torch.backends.cudnn.version()]  # type: ignore[no-untyped-call]


def _settings() -> list[Any]:
    return [
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.allow_tf32,
        torch.backends.mkldnn.enabled,
        str(torch.get_default_dtype()),
    ]
