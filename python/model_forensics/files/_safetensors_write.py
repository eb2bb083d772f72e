"""Writing safetensors files with deterministic bytes.

Format: https://github.com/huggingface/safetensors#format (8 bytes little-endian header size, JSON header, data).
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from model_forensics.errors import UsageError
from model_forensics.files._sealed import Seal, create_file

MAX_HEADER_BYTES: Final = 16 << 20
MAX_TENSORS: Final = 1 << 16
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # NumPy has no bfloat16: its bit patterns
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
}
TAGS = {dtype: tag for tag, dtype in DTYPES.items() if tag != "BF16"}


@dataclass(frozen=True)
class TensorSource:
    """A tensor whose bytes are produced piece by piece.

    Attributes:
        name: any text but `__metadata__`.
        tag: safetensors dtype, for example "F32".
        shape: its dimensions.
        pieces: its bytes, little-endian, C order; together exactly as many as dtype and shape say.
    """

    name: str
    tag: str
    shape: tuple[int, ...]
    pieces: Iterable[bytes | memoryview]

    @property
    def nbytes(self) -> int:
        size = DTYPES[self.tag].itemsize
        for dimension in self.shape:
            size *= dimension
        return size


def widen_bfloat16(bits: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Exact float32 values of bfloat16 bit patterns, any shape; NaN payloads are kept.

    Raises:
        UsageError: the array is not uint16.
    """
    if bits.dtype != np.uint16:
        raise UsageError(f"bfloat16 bit patterns must be uint16, not {bits.dtype}", cure="Pass the stored bits")
    return np.left_shift(bits, 16, dtype=np.uint32).view(np.float32)


def write_safetensors(
    path: Path | str,
    tensors: Mapping[str, npt.NDArray[Any]],
    *,
    metadata: Mapping[str, str] | None = None,
    bfloat16: Collection[str] = (),
    seal: Seal | None = None,
) -> None:
    """Write arrays to a safetensors file. The same arguments give the same bytes, whatever the mapping's order.

    Args:
        path: the file; an existing one is overwritten. Not atomic: use it inside `atomic_directory`.
        tensors: C-contiguous or not, any byte order; bool, integers of 8 to 64 bits, float16, float32, float64.
        metadata: free text for the header.
        bfloat16: names whose uint16 bit patterns are stored as BF16.
        seal: encrypt the file with it.

    Raises:
        UsageError: a dtype that the format lacks, a reserved name, `bfloat16` of an array that is not uint16.
        StorageError: writing failed; no partial file stays behind.
    """
    missing = sorted(set(bfloat16) - set(tensors))
    if missing:
        raise UsageError(f"bfloat16 names tensors that are not given: {missing}", where=path, cure="Correct the names")
    sources = [_array_source(name, array, name in bfloat16) for name, array in tensors.items()]
    write_safetensors_sources(path, sources, metadata=metadata, seal=seal)


def write_safetensors_sources(
    path: Path | str,
    sources: Sequence[TensorSource],
    *,
    metadata: Mapping[str, str] | None = None,
    seal: Seal | None = None,
) -> None:
    """As `write_safetensors`, for tensors whose bytes come in pieces. Largest item size first, then by name, so that
    every tensor is aligned to its items.

    Raises:
        UsageError: a reserved or repeated name, more tensors or a larger header than is read, or pieces that do not
            add up to the declared size.
        StorageError: writing failed; no partial file stays behind.
    """
    ordered = sorted(sources, key=lambda source: (-DTYPES[source.tag].itemsize, source.name))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    position = 0
    for source in ordered:
        if source.name == "__metadata__" or source.name in header:
            raise UsageError(f"{source.name!r} is reserved or given twice", where=path, cure="Rename the tensor")
        end = position + source.nbytes
        header[source.name] = {"dtype": source.tag, "shape": list(source.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    text += b" " * (-len(text) % 8)
    if len(sources) > MAX_TENSORS or len(text) > MAX_HEADER_BYTES:
        raise UsageError(
            f"{len(sources):,} tensors, with a header of {len(text):,} bytes, of which at most {MAX_TENSORS:,} and "
            f"{MAX_HEADER_BYTES:,} are read",
            where=path,
            cure="Divide them over several files or bundles",
        )
    try:
        with create_file(path, seal) as stream:
            stream.write(len(text).to_bytes(8, "little") + text)
            for source in ordered:
                written = 0
                for piece in source.pieces:
                    written += stream.write(piece)
                if written != source.nbytes:
                    raise UsageError(
                        f"tensor {source.name!r} came with {written} bytes instead of {source.nbytes}",
                        where=path,
                        cure="Declare the shape that the data has",
                    )
    except BaseException:
        with suppress(OSError):  # the first error is the one to report
            os.unlink(path)
        raise


def _array_source(name: str, array: npt.NDArray[Any], bfloat16: bool) -> TensorSource:
    array = np.asarray(array)
    little = array.dtype.newbyteorder("<")
    tag = TAGS.get(little)
    if tag is None:
        raise UsageError(f"dtype {array.dtype} cannot be stored", where=name, cure="Convert it to a plain number type")
    if bfloat16:
        if tag != "U16":
            raise UsageError(
                f"bfloat16 bit patterns must be uint16, not {array.dtype}", where=name, cure="Pass the stored bits"
            )
        tag = "BF16"
    # Not ascontiguousarray, which would make a scalar one-dimensional.
    data = np.asarray(array, dtype=little, order="C")
    pieces = [data.reshape(-1).view(np.uint8).data] if data.size else []
    return TensorSource(name, tag, data.shape, pieces)
