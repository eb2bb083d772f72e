"""How small activations become, against what else could store them. Sizes are the point; times stand beside."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import zstandard
from isal import isal_zlib
from pcodec import ChunkConfig, standalone
from zlib_ng import zlib_ng

from bench import inputs, rivals
from bench.contest import Contender, Contest, ours
from bench.plugin import Size
from model_forensics import ops

Pack = Callable[[bytes], bytes]

# name → encoder, decoder
COMPRESSORS: dict[str, tuple[Pack, Pack]] = {
    "zstd 19": (
        zstandard.ZstdCompressor(level=19).compress,
        zstandard.ZstdDecompressor().decompress,
    ),
    "zstd 3": (zstandard.ZstdCompressor(level=3).compress, zstandard.ZstdDecompressor().decompress),
    "zlib 6": (lambda data: zlib.compress(data, 6), zlib.decompress),
    "zlib-ng 6": (lambda data: zlib_ng.compress(data, 6), zlib_ng.decompress),
    "isal 3": (lambda data: isal_zlib.compress(data, 3), isal_zlib.decompress),
}


def on_planes(name: str, words: np.ndarray) -> Contender:
    encode, decode = COMPRESSORS[name]
    planes = rivals.byte_planes(words)
    return Contender(
        f"{name}, byte planes",
        lambda: [encode(plane) for plane in planes],
        lambda stored: right([decode(one) for one in stored] == list(planes)),
        words.nbytes,
        stored_bytes=lambda stored: sum(map(len, stored)),
    )


def on_raw(name: str, words: np.ndarray) -> Contender:
    encode, decode = COMPRESSORS[name]
    raw = words.tobytes()
    return Contender(
        f"{name}, raw", lambda: encode(raw), lambda stored: right(decode(stored) == raw), words.nbytes, stored_bytes=len
    )


def with_pcodec(words: np.ndarray) -> Contender:
    """pcodec knows float32 and float16; bfloat16 it takes as the 16-bit integers that its bit patterns are."""
    numbers = words.view(np.float32) if words.itemsize == 4 else words
    return Contender(
        "pcodec",
        lambda: standalone.simple_compress(numbers, ChunkConfig()),
        lambda stored: right(standalone.simple_decompress(stored).tobytes() == words.tobytes()),
        words.nbytes,
        stored_bytes=len,
    )


def right(truth: bool) -> None:
    assert truth, "the data does not come back"


def compete(contest: Contest, name: str, given: str, words: np.ndarray) -> None:
    """`words`: the values' bit patterns, uint16 for bfloat16 or uint32 for float32."""
    dtype = "float32" if words.itemsize == 4 else "bfloat16"
    data = words.view(np.float32) if dtype == "float32" else words

    def contenders(model: str) -> list[Contender]:
        found = ours(
            "arithmetic_encode",
            lambda backend: ops.arithmetic_encode(data, model=model, dtype=dtype, backend=backend),
            lambda stream: right(ops.arithmetic_decode(stream).tobytes() == words.tobytes()),
            words.nbytes,
            backends=("cpp",),
            threads=(1,),
            stored_bytes=len,
        )
        return [replace(one, name=f"{one.name}, {model}") for one in found]

    contest.run(
        f"stored size, {name}",
        unit="B",
        given=given,
        rounds=1,  # sizes do not vary
        contenders=[
            *contenders("adaptive"),
            *contenders("static"),
            *contenders("conditional"),
            *(on_planes(one, words) for one in COMPRESSORS),
            *(on_raw(one, words) for one in ("zstd 19", "zlib 6")),
            with_pcodec(words),
        ],
    )


def test_recorded_bfloat16(contest: Contest, size: Size) -> None:
    words = inputs.recorded_bfloat16(size(1 << 21, 1 << 12))
    if words is None:
        pytest.skip("no real recordings on this machine; set MODEL_FORENSICS_REAL_DATA")
    given = f"{words.nbytes / 2**20:.1f} MiB of Qwen3-4B recordings, each site's largest tenth"
    compete(contest, "bfloat16, recorded", given, words)


def test_recorded_float32(contest: Contest, size: Size) -> None:
    values = inputs.encoder_activations(size(1 << 21, 1 << 12))
    if values is None:
        pytest.skip("the pretrained encoder comes with the test extra")
    given = f"{values.nbytes / 2**20:.1f} MiB of what the blocks of MiniLM-L6 compute, [tokens, 384] a block"
    compete(contest, "float32, recorded", given, values.view(np.uint32))


def test_synthetic_bfloat16(contest: Contest, size: Size) -> None:
    words = inputs.rounded_to_bfloat16(inputs.activations(size(1024, 8), 1024).reshape(-1))
    compete(contest, "bfloat16, synthetic", f"{words.nbytes / 2**20:.1f} MiB of heavy-tailed channels", words)


def test_synthetic_float32(contest: Contest, size: Size) -> None:
    values = inputs.activations(size(512, 4), 1024).reshape(-1)
    compete(
        contest,
        "float32, synthetic",
        f"{values.nbytes / 2**20:.1f} MiB of heavy-tailed channels",
        values.view(np.uint32),
    )
