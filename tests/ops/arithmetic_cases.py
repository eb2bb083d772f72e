"""Bytes that the tests of the arithmetic coder share."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from model_forensics import ops
from model_forensics.ops._numpy import arithmetic as reference

Bytes = npt.NDArray[np.uint8]
ELEMENTS = ("bytes", "float32", "float16", "bfloat16")
MODELS = ("static", "adaptive", "conditional")
CODER = reference._Coder()
fixture_is_a_name = settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])

# Bytes as they come: few symbols, many, all equal, skewed.
contents = st.one_of(
    st.binary(max_size=300),
    hnp.arrays(np.uint8, st.integers(0, 2000), elements=st.sampled_from([0, 1, 7, 255])).map(bytes),
    st.builds(lambda n, symbol: bytes([symbol]) * n, st.integers(0, 3000), st.integers(0, 255)),
    st.builds(
        lambda n, seed: np.random.default_rng(seed).normal(128, 5, n).astype(np.uint8).tobytes(),
        st.integers(0, 3000),
        st.integers(0, 9),
    ),
    st.builds(lambda n, seed: related(n, seed).tobytes(), st.integers(0, 9000), st.integers(0, 9)),
)


def exponents(n: int, seed: int = 0) -> Bytes:
    """Bytes like an exponent plane: some four bits of entropy."""
    return np.random.default_rng(seed).normal(120, 4, n).astype(np.uint8)


def related(n: int, seed: int = 0) -> Bytes:
    """Bytes that are much like the ones before, as the exponents of one site after the other."""
    rng = np.random.default_rng(seed)
    return (np.repeat(rng.integers(100, 140, n // 250 + 1), 250)[:n] + rng.integers(-1, 2, n)).astype(np.uint8)


def decoded(stream: bytes | Bytes, backend: str, **arguments: Any) -> bytes:
    return ops.arithmetic_decode(stream, backend=backend, **arguments).tobytes()
