"""Inputs of the benchmarks, all from fixed seeds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.qwen_recordings import read_recording

SEED = 20_26
_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def uniform_symbols(count: int, alphabet: int) -> npt.NDArray[np.uint8]:
    """[count] uint8, every symbol equally likely."""
    return np.random.default_rng(SEED).integers(0, alphabet, count, dtype=np.uint8)


def activations(tokens: int, channels: int) -> npt.NDArray[np.float32]:
    """[tokens, channels] float32 with what real activations have: channels of different scale, tails, a few outliers.

    Student-t with 4 degrees of freedom; channel scales log-normal, σ = 1; one channel in 128 is 30 times larger.
    """
    random = np.random.default_rng(SEED)
    scale = np.exp(random.standard_normal(channels, dtype=np.float32))
    scale[:: 128 if channels >= 128 else channels] *= 30
    values = random.standard_normal((tokens, channels), dtype=np.float32)
    for start in range(0, tokens, 1024):  # in parts, so that the divisor is never as large as the result
        part = values[start : start + 1024]
        part /= np.sqrt(random.standard_gamma(2.0, part.shape, dtype=np.float32) / 2)
    values *= scale
    return values


def rounded_to_bfloat16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The upper halves of the bit patterns, rounded to nearest even; finite values only."""
    bits = values.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded >> np.uint32(16)).astype(np.uint16)


def exponent_bytes(count: int) -> npt.NDArray[np.uint8]:
    """[count] uint8: biased exponents of `activations`, about 3.5 bits each: what byte planes of weights and states
    give an entropy coder."""
    values = activations(-(-count // 256), 256).reshape(-1)[:count]
    return ((values.view(np.uint32) >> np.uint32(23)) & np.uint32(0xFF)).astype(np.uint8)


def skewed_bytes(count: int) -> npt.NDArray[np.uint8]:
    """[count] uint8 of all 256 values, geometric-like frequencies in random order, about 5.4 bits each."""
    random = np.random.default_rng(SEED)
    share = np.exp(-np.arange(256) / 16.0)
    return random.permutation(256).astype(np.uint8)[np.searchsorted(np.cumsum(share / share.sum()), random.random(count))]


def recorded_bfloat16(byte_limit: int) -> npt.NDArray[np.uint16] | None:
    """Values that were recorded as bfloat16 from a 4-billion-parameter model, recordings one after another.

    Each site's recording holds the tenth of its values that is largest in magnitude, in the order of the channels.

    Returns:
        At most `byte_limit` bytes of them, or None where the recordings are not on this machine.
    """
    folder = Path(os.environ.get("MODEL_FORENSICS_REAL_DATA", _DATA)) / "qwen3-4b-recordings"
    parts: list[npt.NDArray[np.uint16]] = []
    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        recording = read_recording(path, None)
        for site in recording.names:
            values = recording.arrays[site][0]
            parts.append((values.view(np.uint32) >> np.uint32(16)).astype(np.uint16))
            total += parts[-1].nbytes
        if total >= byte_limit:
            break
    return np.concatenate(parts)[: byte_limit // 2] if parts else None
