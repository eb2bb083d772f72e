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
def histogram(symbols: npt.NDArray[np.uint8], alphabet: int, out: npt.NDArray[np.int64], /) -> None: ...
def quantize_uniform(
    values: npt.NDArray[np.float32],
    low: npt.NDArray[np.float32],
    step: npt.NDArray[np.float32],
    levels: int,
    out: npt.NDArray[np.uint8],
    /,
) -> None: ...
def quantize_log(
    values: npt.NDArray[np.float32],
    low: npt.NDArray[np.float32],
    step: npt.NDArray[np.float32],
    levels: int,
    out: npt.NDArray[np.uint8],
    /,
) -> None: ...
def codelength_per_channel(
    symbols: npt.NDArray[np.uint8], cost: npt.NDArray[np.float32], out: npt.NDArray[np.float64], /
) -> None: ...
def codelength_per_token(
    symbols: npt.NDArray[np.uint8], cost: npt.NDArray[np.float32], out: npt.NDArray[np.float64], /
) -> None: ...

class StreamError(ValueError): ...

def arithmetic_encode(data: npt.NDArray[np.uint8], element: int, model: int, /) -> npt.NDArray[np.uint8]: ...
def arithmetic_size(stream: npt.NDArray[np.uint8], /) -> int: ...
def arithmetic_decode(stream: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8], /) -> None: ...
