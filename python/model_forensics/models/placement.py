"""Where a model takes its inputs and keeps its weights, if accelerate moves these in and out while it runs.

A model that does not fit (`device_map`) has parameters on the meta device; what accelerate attached to its modules says
from where it fetches them, and on which device they run. Only that is read here: accelerate itself is not needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn


def input_device(module: nn.Module) -> torch.device:
    """Where the first parameter (or buffer) is, or where it is moved to when it runs; the CPU for a module without any.

    It is the meta device for a model whose weights are not loaded at all.
    """
    first = next(chain(module.parameters(), module.buffers()), None)
    if first is None:
        return torch.device("cpu")
    if not first.is_meta:
        return first.device
    devices = (getattr(hook, "execution_device", None) for part in module.modules() for hook in _hooks(part))
    return torch.device(next((device for device in devices if device is not None), first.device))


def offloaded(module: nn.Module, name: str) -> Tensor | None:
    """The weight of this name in `state_dict` as it is kept outside the model; None where it is not."""
    path = name.split(".")
    for depth in range(len(path) - 1, -1, -1):
        for hook in _hooks(module.get_submodule(".".join(path[:depth]))):
            kept = getattr(hook, "weights_map", None)
            if kept is None:
                continue
            try:
                return torch.as_tensor(kept[".".join(path[depth:])])
            except KeyError:  # of another module; what it maps cannot be asked otherwise
                continue
    return None


def _hooks(module: nn.Module) -> Iterator[Any]:
    """What accelerate attached to this module: one hook, or several in a sequence."""
    hook = getattr(module, "_hf_hook", None)
    if hook is not None:
        yield from getattr(hook, "hooks", (hook,))
