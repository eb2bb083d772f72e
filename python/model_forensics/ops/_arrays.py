"""Array types of the backends."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Symbols: TypeAlias = npt.NDArray[np.uint8]
Floats: TypeAlias = npt.NDArray[np.float32]
Bits: TypeAlias = npt.NDArray[np.float64]
Integers: TypeAlias = npt.NDArray[np.int64]
Words: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]
"""uint16 or uint32: floating-point values that are moved and never computed with."""

BLOCK = 1 << 20
"""Items of temporary memory that the NumPy backend takes at a time."""
