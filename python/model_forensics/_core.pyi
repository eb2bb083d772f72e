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
def patch_rows(
    hidden: npt.NDArray[np.unsignedinteger],
    edits: npt.NDArray[np.int64],
    indices: npt.NDArray[np.int64],
    values: npt.NDArray[np.unsignedinteger],
    /,
) -> None: ...
