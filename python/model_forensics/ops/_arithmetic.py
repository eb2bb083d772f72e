"""The arithmetic coder: bytes and floating-point values to a stream and back."""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from model_forensics.errors import StreamError, UsageError
from model_forensics.ops import _check, _dispatch

Model = Literal["static", "adaptive", "conditional"]
Element = Literal["bytes", "float32", "float16", "bfloat16"]
BytesLike: TypeAlias = bytes | bytearray | memoryview

DEFAULT_LIMIT: Final = 1 << 30

# Both in the order of their numbers in the stream.
MODELS: Final = ("static", "adaptive", "conditional")
ELEMENTS: Final = ("bytes", "float32", "float16", "bfloat16")
_ELEMENTS_OF: Final = {
    "uint8": ELEMENTS,
    "float32": ("float32", "bytes"),
    "float16": ("float16", "bytes"),
    "uint16": ("bfloat16", "bytes"),
}


@_dispatch.served_on_gpu
def arithmetic_encode(
    data: BytesLike | npt.NDArray[Any], *, model: Model = "static", dtype: Element | None = None, backend: str = "auto"
) -> bytes:
    """Code data with a range coder (Martin 1979), losslessly, to a stream that checks itself.

    The format is docs/stream-format.md. Floating-point values are split into byte planes, each with a model of its own.
    What does not become smaller is stored as it is, so a stream is never longer than the data by more than 24 bytes,
    and 13 more for each 4 MiB begun.

    Args:
        data: bytes-like, or an array of any shape: uint8, float32, float16, or uint16 that holds bfloat16. Or a CUDA
            tensor of uint8, float32, float16 or bfloat16, coded on its device, with any but the conditional model.
        model: "static", frequencies of the whole, stored with it, rounded to 2^-14; "adaptive", those of what came
            before (Krichevsky and Trofimov 1981), slower and without a table; "conditional", static ones for each sum
            of the four bytes before where that pays, for storage: it sees that exponents of neighbours are alike.
        dtype: what the bytes hold, "bytes", "float32", "float16" or "bfloat16". None: what the array holds; "bytes" for
            uint8 and bytes-like. A uint16 array needs it. A rest shorter than an element is stored as it is.
        backend: "auto" or the name of a backend; all make the same stream.

    Returns:
        The stream. For a CUDA tensor a [n] uint8 tensor of it on the same device; only its size comes to the host.

    Raises:
        UsageError: an argument is not as above.
        BackendUnavailable: the backend cannot serve.
    """
    op = "arithmetic_encode"
    element = _element(op, data, dtype)
    content = _bytes_of(op, "data", data)
    number = MODELS.index(_check.choice(op, "model", model, MODELS))
    choice = _dispatch.select(op, content, backend)
    stream: npt.NDArray[np.uint8] = choice.module.arithmetic_encode(content, ELEMENTS.index(element), number)
    _dispatch.record(choice)
    return stream.tobytes()


@_dispatch.served_on_gpu
def arithmetic_decode(
    stream: BytesLike | npt.NDArray[np.uint8], *, limit: int | None = None, backend: str = "auto"
) -> npt.NDArray[np.uint8]:
    """Decode what `arithmetic_encode` made, by any backend, after checking it.

    Args:
        stream: bytes-like, or a uint8 array. Or a CUDA tensor of uint8, decoded on its device; of it only the header
            comes to the host. What the conditional model made is decoded in host memory only.
        limit: the most bytes that it may decode to; None: 1 GiB. A few bytes can say that they stand for many, so that
            this, not the size of the stream, bounds the memory that a stream of unknown origin takes.
        backend: "auto" or the name of a backend.

    Returns:
        [n] uint8, the bytes of the data; for values `.view(np.float32)` and the like. A tensor on the device of the
        stream if that is one.

    Raises:
        StreamError: the stream is not one, is damaged, is of another version, or decodes to more than `limit`.
        UsageError: an argument is not as above.
        BackendUnavailable: the backend cannot serve.
    """
    op = "arithmetic_decode"
    if isinstance(stream, np.ndarray) and stream.dtype != np.uint8:
        raise UsageError(f"stream is {stream.dtype.name}", where=op, cure="Pass bytes or a NumPy array of uint8")
    coded = _bytes_of(op, "stream", stream)
    most = read_limit(op, limit)
    choice = _dispatch.select(op, coded, backend)
    try:
        size = choice.module.arithmetic_size(coded)
        check_limit(op, size, most)
        out = np.empty(size, dtype=np.uint8)
        choice.module.arithmetic_decode(coded, out)
    except choice.module.BrokenStream as error:
        raise broken(op, error) from error
    _dispatch.record(choice)
    return out


def read_limit(op: str, limit: int | None) -> int:
    """The most bytes that a stream may decode to."""
    return _check.integer(op, "limit", DEFAULT_LIMIT if limit is None else limit, 0, np.iinfo(np.int64).max)


def check_limit(op: str, size: int, most: int) -> None:
    """StreamError if `size` bytes are more than the limit."""
    if size > most:
        raise StreamError(
            f"the stream decodes to {size} bytes, and the limit is {most}",
            where=op,
            cure=f"Pass limit={size} if you trust where it comes from",
        )


def broken(op: str, reason: Exception) -> StreamError:
    """What a user is told of a stream that a backend finds broken."""
    return StreamError(
        f"the stream cannot be decoded: {reason}", where=op, cure="Take the stream again from its source"
    )


def _bytes_of(op: str, name: str, value: Any) -> npt.NDArray[np.uint8]:
    """[n] uint8, a view where that is possible."""
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    try:
        view = memoryview(value)
    except TypeError:
        raise UsageError(
            f"{name} is a {type(value).__name__}", where=op, cure="Pass bytes or a NumPy array (tensor.cpu().numpy())"
        ) from None
    return np.frombuffer(view if view.c_contiguous else view.tobytes(), dtype=np.uint8)


def _element(op: str, data: Any, dtype: Any) -> str:
    """The name of what `data` holds, as `dtype` says or as its own dtype does."""
    own = "uint8"
    if isinstance(data, np.ndarray):
        own = data.dtype.name
        if own not in _ELEMENTS_OF or not data.dtype.isnative:
            raise UsageError(
                f"data is {data.dtype.str} ({own})",
                where=op,
                cure="Pass uint8, float32, float16, or uint16 that holds bfloat16; data.view(np.uint8) for others",
            )
    if dtype is None and own == "uint16":
        raise UsageError("data is uint16", where=op, cure="Pass dtype='bfloat16' or dtype='bytes' to say what it holds")
    accepted = _ELEMENTS_OF[own]
    return accepted[0] if dtype is None else _check.choice(op, "dtype", dtype, accepted)
