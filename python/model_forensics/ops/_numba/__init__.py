"""The operations in numba: what serves when the compiled core is not there.

Each function has the arguments and the arithmetic of its namesake in `_numpy`, so that the results are the same bits.
`fastmath` stays off for that reason.
"""

from model_forensics.ops._numba.arithmetic import BrokenStream, arithmetic_decode, arithmetic_encode, arithmetic_size
from model_forensics.ops._numba.bins import bin_sums
from model_forensics.ops._numba.codelength import codelength
from model_forensics.ops._numba.entropy import entropy_windows
from model_forensics.ops._numba.patch import patch_rows
from model_forensics.ops._numba.planes import histogram, quantize
from model_forensics.ops._numba.predictive import add_moments, predictive_bits
from model_forensics.ops._numba.value_shapes import value_shapes

__all__ = [
    "BrokenStream",
    "add_moments",
    "arithmetic_decode",
    "arithmetic_encode",
    "arithmetic_size",
    "bin_sums",
    "codelength",
    "entropy_windows",
    "histogram",
    "patch_rows",
    "predictive_bits",
    "quantize",
    "value_shapes",
]
