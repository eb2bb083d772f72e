from typing import Final

import numpy as np
import numpy.typing as npt

compiler: Final[str]

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
