"""Tensors in GPU memory: checks of arguments, parameters that follow the data, the stream that work is queued on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model_forensics.errors import UsageError


def tensor(op: str, name: str, value: Any, dtype: torch.dtype, dimensions: int) -> torch.Tensor:
    """`value`, contiguous (copied on its device if it is not), without its gradient; or UsageError."""
    accepted = f"Pass a CUDA tensor of {str(dtype).removeprefix('torch.')} with {dimensions} dimensions"
    if not isinstance(value, torch.Tensor):
        raise UsageError(f"{name} is a {type(value).__name__}, not a torch tensor", where=op, cure=accepted)
    if value.dtype != dtype:
        raise UsageError(f"{name} is {str(value.dtype).removeprefix('torch.')}", where=op, cure=accepted)
    if value.ndim != dimensions:
        raise UsageError(f"{name} has shape {list(value.shape)}", where=op, cure=accepted)
    return value.detach().contiguous()


def to_device(array: npt.NDArray[Any], device: torch.device) -> torch.Tensor:
    """A copy of a parameter (tables, shapes; never data) where the data is."""
    return torch.from_numpy(np.array(array, order="C")).to(device)


def guard(device: torch.device) -> AbstractContextManager[Any]:
    """Makes the device current, so that launches go there."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def stream(*remembered: torch.Tensor) -> int:
    """Address of torch's current stream, on which the given tensors, kept for later calls, will be used.

    The allocator is told so: a tensor made on another stream is not given away while this one may still read it.
    """
    device = remembered[0].device
    if device.type != "cuda":
        return 0
    current = torch.cuda.current_stream(device)
    for kept in remembered:
        kept.record_stream(current)
    return int(current.cuda_stream)
