"""What a backend brings: words of lanes, and a checksum."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from model_forensics.ops._arrays import Integers, Symbols


class LaneEncoder(Protocol):
    def encode(self, symbols: Symbols, frequencies: Integers) -> None:
        """Code a run of symbols, symbol i in lane i % lanes; the frequencies [256] add up to a power of two."""

    def encode_conditional(self, symbols: Symbols, frequencies: Integers) -> None:
        """Code all symbols, each by the row of `frequencies` [256, 256] of its context (`models.contexts`)."""

    def finish(self) -> list[npt.NDArray[np.uint16]]:
        """End every lane; its words, without those of zero at the end."""


class LaneDecoder(Protocol):
    def decode(self, symbols: Symbols, frequencies: Integers) -> None:
        """Fill `symbols` with the next run."""

    def decode_conditional(self, symbols: Symbols, frequencies: Integers) -> None:
        """Fill all symbols."""


class Coder(Protocol):
    def crc32c(self, data: Symbols) -> int: ...

    def encoder(self, lanes: int, symbols: int) -> LaneEncoder:
        """An encoder for so many symbols in all."""

    def decoder(self, words: npt.NDArray[np.uint16], sizes: list[int]) -> LaneDecoder:
        """A decoder for the words of all lanes, one lane after the other."""
