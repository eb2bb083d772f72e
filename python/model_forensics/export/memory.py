"""One copy of a model on a GPU, while another process or another load needs the place."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn

from model_forensics.models import Model


@contextmanager
def off_the_gpu(*models: Model | None) -> Iterator[None]:
    """The models wait in the host's memory meanwhile, and are where they were afterwards.

    Models on the CPU are left where they are (loaded again, these share the pages of one file), and so are those that
    accelerate spreads over devices. Tensors that were taken from a model before are not the model's afterwards.
    """
    moved = [(model.module, model.device) for model in models if model is not None and _is_on_one_gpu(model.module)]
    for module, _ in moved:
        module.to("cpu")
    if moved:
        torch.cuda.empty_cache()
    try:
        yield
    finally:
        for module, device in moved:
            module.to(device)


def _is_on_one_gpu(module: nn.Module) -> bool:
    devices = {tensor.device for tensor in chain(module.parameters(), module.buffers())}
    return len(devices) == 1 and devices.pop().type == "cuda"
