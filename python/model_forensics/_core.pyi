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
def predictive_bits(
    values: npt.NDArray[np.float32],
    channels: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    location: npt.NDArray[np.float32],
    scale: npt.NDArray[np.float32],
    degrees: npt.NDArray[np.uint8],
    positive: npt.NDArray[np.float32],
    presence_gain: npt.NDArray[np.float32],
    bits: npt.NDArray[np.float64],
    expected: npt.NDArray[np.float64],
    step: float,
    resolution: float,
    least_scale: float,
    largest_square: float,
    excess: npt.NDArray[np.float64],
    symbols: npt.NDArray[np.uint8],
    presence: npt.NDArray[np.float64],
    sums: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    /,
) -> None: ...
def add_moments(
    values: npt.NDArray[np.float32],
    channels: npt.NDArray[np.int64],
    count: npt.NDArray[np.float64],
    total: npt.NDArray[np.float64],
    square: npt.NDArray[np.float64],
    positive: npt.NDArray[np.float64],
    /,
) -> None: ...
def bin_sums(
    x: npt.NDArray[np.float64],
    bins: npt.NDArray[np.int64],
    starts: npt.NDArray[np.int64],
    centre: npt.NDArray[np.float64],
    spread: npt.NDArray[np.float64],
    limit: float,
    total: npt.NDArray[np.float64],
    squares: npt.NDArray[np.float64],
    /,
) -> None: ...
def value_shapes(
    values: npt.NDArray[np.float32],
    starts: npt.NDArray[np.int64],
    most: int,
    levels: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    quantiles: npt.NDArray[np.float32],
    /,
) -> None: ...
