"""The arithmetic coder against constriction's range coder, with general-purpose compressors beside."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import zstandard
from isal import isal_zlib
from zlib_ng import zlib_ng

from bench import inputs, rivals
from bench.contest import Contender, Contest, equal_to, ours
from bench.plugin import Size
from model_forensics import ops

MODELS = ("static", "adaptive")


@dataclass(frozen=True)
class Codec:
    """Another library's coder: `encode` then `decode` give the data back."""

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


# At the level that is meant for speed, or at the usual one.
COMPRESSORS = {
    "zlib 6": Codec(lambda data: zlib.compress(data, 6), zlib.decompress),
    "zlib-ng 6": Codec(lambda data: zlib_ng.compress(data, 6), zlib_ng.decompress),
    "isal 1": Codec(lambda data: isal_zlib.compress(data, 1), isal_zlib.decompress),
    "zstd 3": Codec(
        zstandard.ZstdCompressor(level=3).compress,
        zstandard.ZstdDecompressor().decompress,
    ),
}


def constriction_codec(symbols: np.ndarray, model: str) -> Codec:
    if model == "adaptive":
        return Codec(
            rivals.constriction_adaptive_encode, lambda words: rivals.constriction_adaptive_decode(words, symbols.size)
        )
    table = rivals.constriction_model(symbols)
    return Codec(
        lambda data: rivals.constriction_encode(data, table),
        lambda words: rivals.constriction_decode(words, table, symbols.size),
    )


def others(data: np.ndarray, part: np.ndarray, model: str) -> list[tuple[str, Codec, Any, int]]:
    """Name, coder, what it encodes, and how many bytes that stands for; slow ones get the part only."""
    symbols = data.astype(np.int32)  # constriction takes nothing else; the conversion is not timed
    return [
        ("constriction", constriction_codec(symbols, model), symbols, data.size),
        *((name, codec, part.tobytes(), part.size) for name, codec in COMPRESSORS.items()),
    ]


def same(given: Any) -> Callable[[Any], None]:
    if isinstance(given, bytes):
        return lambda result: equal_to(True)(result == given)
    return equal_to(given)


def refuse_other_bytes(data: np.ndarray, model: str) -> None:
    """Every backend must write the reference's stream; on a short piece, because the reference is plain Python."""
    expected = ops.arithmetic_encode(data, model=model, backend="numpy")
    equal_to(data)(ops.arithmetic_decode(expected, backend="numpy"))
    for backend, state in ops.backends()["arithmetic_encode"].items():
        if state == "available":
            stream = ops.arithmetic_encode(data, model=model, backend=backend)
            assert stream == expected, f"{backend} writes other bytes than the reference"


def own_encoders(data: np.ndarray, model: str, backend: str) -> list[Contender]:
    return ours(
        "arithmetic_encode",
        lambda backend: ops.arithmetic_encode(data, model=model, backend=backend),
        lambda stream: equal_to(data)(ops.arithmetic_decode(stream)),
        data.size,
        backends=(backend,),
        stored_bytes=len,
    )


def own_decoders(data: np.ndarray, model: str, backend: str) -> list[Contender]:
    stream = ops.arithmetic_encode(data, model=model)
    return ours(
        "arithmetic_decode",
        lambda backend: ops.arithmetic_decode(stream, backend=backend),
        equal_to(data),
        data.size,
        backends=(backend,),
    )


@pytest.mark.parametrize("model", MODELS)
def test_encode(contest: Contest, size: Size, model: str) -> None:
    data = inputs.skewed_bytes(size(1 << 24, 1 << 12))
    part = data[: size(1 << 21, 1 << 12)]
    refuse_other_bytes(data[: size(1 << 16, 1 << 10)], model)
    contest.run(
        f"arithmetic_encode, {model}",
        unit="B",
        given=f"{data.size / 2**20:.0f} MiB of skewed bytes",
        contenders=[
            *own_encoders(data, model, "cpp"),
            *own_encoders(part, model, "numba"),
            *(
                Contender(
                    name,
                    lambda codec=codec, given=given: codec.encode(given),
                    lambda stored, codec=codec, given=given: same(given)(codec.decode(stored)),
                    items,
                    stored_bytes=lambda stored: memoryview(stored).nbytes,
                )
                for name, codec, given, items in others(data, part, model)
            ),
        ],
    )


@pytest.mark.parametrize("model", MODELS)
def test_decode(contest: Contest, size: Size, model: str) -> None:
    data = inputs.skewed_bytes(size(1 << 24, 1 << 12))
    part = data[: size(1 << 21, 1 << 12)]
    stored = [
        (name, codec, codec.encode(given), given, items) for name, codec, given, items in others(data, part, model)
    ]
    contest.run(
        f"arithmetic_decode, {model}",
        unit="B",
        given=f"{data.size / 2**20:.0f} MiB of skewed bytes",
        contenders=[
            *own_decoders(data, model, "cpp"),
            *own_decoders(part, model, "numba"),
            *(
                Contender(name, lambda codec=codec, code=code: codec.decode(code), same(given), items)
                for name, codec, code, given, items in stored
            ),
        ],
    )
