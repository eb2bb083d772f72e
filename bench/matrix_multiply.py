"""What a run multiplies, and how fast this machine multiplies matrices: the limit of everything that runs a model."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

SIZE = {"cpu": 2048}
DEVICE_SIZE = 8192
REPEATS = 5


def operations(run: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products in `run()`, attention's included where torch counts them."""
    with FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def operations_a_second(device: torch.device, dtype: torch.dtype) -> float:
    """Of one square product of matrices that are far larger than any of a small model; the best of some."""
    size = SIZE.get(device.type, DEVICE_SIZE)
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = float("inf")
    for _ in range(REPEATS + 1):  # the first one starts threads and chooses a kernel
        start = time.perf_counter()
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best
