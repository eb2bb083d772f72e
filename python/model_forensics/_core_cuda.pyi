from typing import Final

import numpy as np
import numpy.typing as npt

compiler: Final[str]

class Input:
    def __init__(
        self, *, scale: str, values: int, low: int, step: int, levels: int, alphabet: int, outside: int
    ) -> None: ...

class DevicePlan:
    def __init__(self, *, sites: int, count: int, tiles: int, tile_channels: int, tile_tokens: int) -> None: ...

class Sums:
    def __init__(
        self,
        *,
        channel: int = 0,
        token: int = 0,
        site: int = 0,
        block: int = 0,
        block_tokens: int = 0,
        block_channels: int = 0,
    ) -> None: ...

def tile_channels(alphabet: int, /) -> int: ...
def plan_sites(
    shapes: npt.NDArray[np.int64], tile_channels: int, block_tokens: int, block_channels: int, /
) -> tuple[npt.NDArray[np.int64], int, int]: ...
def plan_windows(offsets: npt.NDArray[np.int64], window: int, stride: int, /) -> tuple[npt.NDArray[np.int64], int]: ...
def quantize(input: Input, plan: DevicePlan, symbols: int, stream: int, /) -> None: ...
def histogram(input: Input, plan: DevicePlan, counts: int, stream: int, /) -> None: ...
def codelength(
    input: Input, plan: DevicePlan, cost: int, count: int, tables: int, largest: int, sums: Sums, stream: int, /
) -> None: ...
def entropy_windows(
    symbols: int,
    rows: int,
    count: int,
    sections: int,
    section_windows: int,
    window: int,
    stride: int,
    alphabet: int,
    gain: int,
    whole: int,
    bits: int,
    stream: int,
    /,
) -> None: ...

LANES: Final[int]

class Frame:
    def __init__(self, *, size: int, chunk: int, width: int) -> None: ...
    @property
    def chunks(self) -> int: ...
    @property
    def sections(self) -> int: ...
    def section_words(self, model: int, /) -> int: ...

class Coded:
    def __init__(self, *, model: int, sections: int, slices: int, words: int, lane_words: int, sizes: int) -> None: ...

def split_planes(data: int, frame: Frame, planes: int, counts: int, stream: int, /) -> None: ...
def join_planes(planes: int, frame: Frame, data: int, stream: int, /) -> None: ...
def chunk_checksums(data: int, frame: Frame, checksums: int, stream: int, /) -> None: ...
def encode_sections(planes: int, counts: int, frame: Frame, coded: Coded, stream: int, /) -> None: ...
def write_sections(
    planes: int,
    checksums: int,
    frame: Frame,
    coded: Coded,
    chunk_starts: int,
    section_starts: int,
    out: int,
    stream: int,
    /,
) -> None: ...
def find_chunks(coded: int, size: int, frame: Frame, starts: int, failure: int, stream: int, /) -> None: ...
def read_sections(
    coded: int,
    size: int,
    frame: Frame,
    starts: int,
    sections: int,
    checksums: int,
    failures: int,
    data: int,
    stream: int,
    /,
) -> None: ...
def decode_sections(
    coded: int, size: int, frame: Frame, starts: int, sections: int, failures: int, planes: int, stream: int, /
) -> None: ...
