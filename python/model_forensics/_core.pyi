from typing import Final

import numpy as np
import numpy.typing as npt

compiler: Final[str]

def isa() -> str: ...
def detected_isa() -> str: ...
def use_isa(name: str, /) -> None: ...
def threads() -> int: ...
def set_threads(count: int, /) -> None: ...
def entropy_windows(
    symbols: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    window: int,
    stride: int,
    alphabet: int,
    cost: npt.NDArray[np.int64],
    out: npt.NDArray[np.float64],
    /,
) -> None: ...
def quantize(
    values: npt.NDArray[np.float32],
    shapes: npt.NDArray[np.int64],
    scale: int,
    levels: int,
    low: npt.NDArray[np.float32],
    step: npt.NDArray[np.float32],
    out: npt.NDArray[np.uint8],
    /,
) -> None: ...
def histogram(
    data: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
    shapes: npt.NDArray[np.int64],
    scale: int,
    levels: int,
    low: npt.NDArray[np.float32],
    step: npt.NDArray[np.float32],
    alphabet: int,
    out: npt.NDArray[np.int64],
    /,
) -> None: ...
def codelength(
    data: npt.NDArray[np.uint8] | npt.NDArray[np.float32],
    shapes: npt.NDArray[np.int64],
    scale: int,
    levels: int,
    low: npt.NDArray[np.float32],
    step: npt.NDArray[np.float32],
    cost: npt.NDArray[np.int32],
    tables: npt.NDArray[np.int32],
    block_tokens: int,
    block_channels: int,
    channel: npt.NDArray[np.int64],
    token: npt.NDArray[np.int64],
    site: npt.NDArray[np.int64],
    cell: npt.NDArray[np.int64],
    /,
) -> None: ...

class StreamError(ValueError): ...

def arithmetic_encode(data: npt.NDArray[np.uint8], element: int, model: int, /) -> npt.NDArray[np.uint8]: ...
def arithmetic_size(stream: npt.NDArray[np.uint8], /) -> int: ...
def arithmetic_decode(stream: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8], /) -> None: ...
def patch_rows(
    hidden: npt.NDArray[np.unsignedinteger],
    edits: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int64],
    values: npt.NDArray[np.unsignedinteger],
    /,
) -> None: ...
