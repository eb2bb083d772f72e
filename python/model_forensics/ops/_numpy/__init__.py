"""The reference: plain NumPy, one module for each public one. Every other backend answers to it.

Backends get checked, C-contiguous arrays and fill `out`, which may hold anything on entry.
"""

from model_forensics.ops._numpy.arithmetic import BrokenStream, arithmetic_decode, arithmetic_encode, arithmetic_size
from model_forensics.ops._numpy.codelength import codelength_per_channel, codelength_per_token
from model_forensics.ops._numpy.entropy import entropy_windows
from model_forensics.ops._numpy.planes import histogram, quantize_log, quantize_uniform

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
