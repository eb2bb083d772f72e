"""The operations in numba: what serves when the compiled core is not there.

Each function has the arguments and the arithmetic of its namesake in `_numpy`, so that the results are the same bits.
`fastmath` stays off for that reason.
"""

from model_forensics.ops._numba.arithmetic import BrokenStream, arithmetic_decode, arithmetic_encode, arithmetic_size
from model_forensics.ops._numba.codelength import codelength_per_channel, codelength_per_token
from model_forensics.ops._numba.entropy import entropy_windows
from model_forensics.ops._numba.planes import histogram, quantize_log, quantize_uniform

__all__ = [
    "BrokenStream",
    "arithmetic_decode",
    "arithmetic_encode",
    "arithmetic_size",
    "codelength_per_channel",
    "codelength_per_token",
    "entropy_windows",
    "histogram",
    "quantize_log",
    "quantize_uniform",
]
