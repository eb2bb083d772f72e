"""Arrays that the tests of the operations share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt

from model_forensics import ops
from model_forensics.ops._dispatch import AVAILABLE

Floats = npt.NDArray[np.float32]
SHAPES = [(0, 0), (0, 5), (5, 0), (1, 1), (63, 7), (64, 64), (127, 13), (67, 1031), (131, 65)]
SITES = [(3, 5), (0, 4), (70, 33), (4, 0), (1, 1), (65, 64), (2, 1030), (200, 3)]


def values(shape: tuple[int, ...], seed: int = 0) -> Floats:
    """Normal values with zeros, denormals, infinities and NaN among them."""
    random = np.random.default_rng(seed)
    x = random.standard_normal(shape).astype(np.float32)
    strange = np.array([0.0, -0.0, 1e-45, -1e-40, np.inf, -np.inf, np.nan, 3.4e38], np.float32)
    if x.size:
        chosen = random.random(shape) < 0.05
        x[chosen] = random.choice(strange, int(chosen.sum()))
    return x


def log_grid(channels: int, levels: int = 32, seed: int = 0) -> ops.Grid:
    random = np.random.default_rng(seed)
    low = random.uniform(-8, -5, channels).astype(np.float32)
    return ops.Grid("log", levels, low, random.uniform(0.1, 0.5, channels).astype(np.float32))


def random_cost(tables: int, alphabet: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).normal(4.0, 4.0, (tables, alphabet)).astype(np.float32)


def instruction_sets() -> list[str]:
    """Those that this machine has; none without the core."""
    if ops.backends()["histogram"]["cpp"] != AVAILABLE:
        return []
    from model_forensics import _core

    core: Any = _core
    names = ["portable", "avx2", "avx512"]
    return names[: names.index(core.detected_isa()) + 1]


@contextmanager
def core_with(isa: str, threads: int) -> Iterator[None]:
    """The core runs with these instructions and threads."""
    from model_forensics import _core

    core: Any = _core
    before = core.isa(), core.threads()
    core.use_isa(isa)
    core.set_threads(threads)
    try:
        yield
    finally:
        core.use_isa(before[0])
        core.set_threads(before[1])
