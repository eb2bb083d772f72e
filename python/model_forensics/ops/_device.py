"""Tensors in GPU memory: checks of arguments, parameters that follow the data, the stream that work is queued on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final
from weakref import ref

import numpy as np
import numpy.typing as npt
import torch

from model_forensics.errors import UsageError

_DTYPES: Final = {"uint8": torch.uint8, "float32": torch.float32}

_kept: dict[tuple[int, torch.device], tuple[ref[npt.NDArray[Any]], torch.Tensor]] = {}


def tensor(op: str, name: str, value: Any, dtype: npt.DTypeLike, dimensions: int) -> torch.Tensor:
    """`value`, contiguous (copied on its device if it is not), without its gradient; or UsageError.

    What `_check.array` is for arrays.
    """
    wanted = np.dtype(dtype).name
    accepted = f"Pass a CUDA tensor of {wanted} with {dimensions} dimensions"
    if not isinstance(value, torch.Tensor):
        raise UsageError(f"{name} is a {type(value).__name__}, not a torch tensor", where=op, cure=accepted)
    if value.dtype != _DTYPES[wanted]:
        raise UsageError(f"{name} is {str(value.dtype).removeprefix('torch.')}", where=op, cure=accepted)
    if value.ndim != dimensions:
        raise UsageError(f"{name} has shape {list(value.shape)}", where=op, cure=accepted)
    return value.detach().contiguous()


def to_device(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """A parameter (tables, shapes; never data) where the data is.

    The copy of an array that owns its memory and is read-only, and so will not change, is kept as long as the array.
    """
    key = (id(array), device)
    kept = _kept.get(key)
    if kept is not None and kept[0]() is array:
        return kept[1]
    copy = torch.from_numpy(np.array(array, order="C")).to(device)
    if array.flags.owndata and not array.flags.writeable:
        _kept[key] = (ref(array, lambda _: _kept.pop(key, None)), copy)
    return copy


def guard(device: torch.device) -> AbstractContextManager[Any]:
    """Makes the device current, so that launches go there."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def stream(*parameters: torch.Tensor) -> int:
    """Address of torch's current stream, on which the given parameters will be used.

    Parameters are kept for later calls, maybe on other streams: the allocator is told of this one, so that it does not
    give their memory away while work queued here may still read it.
    """
    device = parameters[0].device
    if device.type != "cuda":
        return 0
    current = torch.cuda.current_stream(device)
    for parameter in parameters:
        parameter.record_stream(current)
    return int(current.cuda_stream)
